// The service's calls, as JSON by the names of the protos.

export class ServiceError extends Error {
  constructor({ message, fields = [], code = "", reason = "" }) {
    super(message);
    Object.assign(this, { fields, code, reason });
  }
}

async function post(rpc, request, signal) {
  let response;
  try {
    response = await fetch(`api/${rpc}`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request), signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError({ message: "the server does not answer: is it still running?" });
  }
  if (!response.ok) throw new ServiceError(await response.json());
  return response;
}

export async function call(rpc, request, signal) {
  return (await post(rpc, request, signal)).json();
}

// Yields [kind, fields] for each event, and throws the one that is an error.
export async function* events(rpc, request, signal) {
  const response = await post(rpc, request, signal);
  let text = "";
  for await (const piece of decoded(response.body)) {
    const parts = (text + piece).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const [, kind, data] = /^event: (\w+)\ndata: (.*)$/.exec(part);
      if (kind === "error") throw new ServiceError(JSON.parse(data));
      yield [kind, JSON.parse(data)];
    }
  }
}

async function* decoded(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    yield value;
  }
}

export async function models() {
  const found = [];
  let token = "", limits = {};
  do {
    const page = await call("ListModels", { page_token: token });
    found.push(...(page.models ?? []));
    limits = page.limits ?? {};
    token = page.next_page_token ?? "";
  } while (token);
  return { models: found.filter((model) => model.state === "MODEL_STATE_READY"), limits };
}

const TYPES = { IMAGE_FORMAT_PNG: "image/png", IMAGE_FORMAT_JPEG: "image/jpeg", IMAGE_FORMAT_WEBP: "image/webp" };

// A picture of the service as something that an img shows.
export const source = (picture) => `data:${TYPES[picture.format]};base64,${picture.data}`;
