// Explains an image: node explain.mjs ADDRESS IMAGE [METHOD]; prints the answer as JSON.
//
// Needs no generated code: the contract is read from the proto files. PROTOS names their folder.
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const PROTOS = process.env.PROTOS ?? fileURLToPath(new URL("../../protos", import.meta.url));

// As for the Python client: round robin among servers, and what failed before it began is
// repeated, when the server says (trailer grpc-retry-pushback-ms).
const SERVICE_CONFIG = JSON.stringify({
  loadBalancingConfig: [{ round_robin: {} }],
  methodConfig: [
    {
      name: [{ service: "gradserve.v1.ExplainerService" }],
      retryPolicy: {
        maxAttempts: 4,
        initialBackoff: "0.1s",
        maxBackoff: "2s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"],
      },
    },
  ],
});

export async function connect(address) {
  const definition = await protoLoader.load("gradserve/v1/explainer_service.proto", {
    includeDirs: [PROTOS],
    keepCase: true,
    enums: String,
    longs: Number,
    defaults: true,
    oneofs: true,
  });
  const { ExplainerService } = grpc.loadPackageDefinition(definition).gradserve.v1;
  return new ExplainerService(address, grpc.credentials.createInsecure(), {
    "grpc.service_config": SERVICE_CONFIG,
    "grpc.max_receive_message_length": -1,
  });
}

export function explain(client, request, seconds = 60) {
  const deadline = new Date(Date.now() + seconds * 1000);
  return new Promise((resolve, reject) => {
    client.Explain(request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

// A tensor of float32, little-endian and row-major, as every machine that runs Node has it in memory.
export function floats(tensor) {
  return new Float32Array(new Uint8Array(tensor.data).buffer);
}

async function main([address, path, method = "grad_cam"]) {
  const client = await connect(address);
  try {
    const answer = await explain(client, {
      image: { encoded: await readFile(path) },
      methods: [{ [method]: {} }],
    });
    const [explanation] = answer.explanations;
    const [height, width] = explanation.heatmap.shape;
    const heatmap = floats(explanation.heatmap);
    const strongest = heatmap.reduce((best, value, index) => (value > heatmap[best] ? index : best), 0);
    console.log(
      JSON.stringify({
        method: explanation.method,
        target: explanation.target,
        height,
        width,
        sum: heatmap.reduce((sum, value) => sum + value, 0),
        strongest: { y: Math.floor(strongest / width), x: strongest % width, value: heatmap[strongest] },
        predictions: answer.predictions,
        model: answer.metadata.model,
      }),
    );
  } catch (error) {
    // The fields at fault are in the details: trailer grpc-status-details-bin, a google.rpc.Status.
    console.error(`${grpc.status[error.code]}: ${error.details}`);
    process.exitCode = 1;
  } finally {
    client.close();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await main(process.argv.slice(2));
}
