// What the scenarios share: one Explain request, checked, over a connection per virtual user.
import encoding from 'k6/encoding'
import grpc from 'k6/net/grpc'
import { check } from 'k6'
import { Counter } from 'k6/metrics'

const address = __ENV.ADDRESS || '127.0.0.1:50051'
const image = encoding.b64encode(open(__ENV.IMAGE, 'b'))
const client = new grpc.Client()
client.load([__ENV.PROTOS || '../../protos'], 'gradserve/v1/explainer_service.proto')

export const answered = new Counter('answered')
export const refused = new Counter('refused')
export const failed = new Counter('failed')

let connected = false

// Connects once per virtual user: a channel is made to be kept.
function connect() {
  if (connected) {
    return
  }
  try {
    client.connect(address, { plaintext: true, timeout: '30s' })
    connected = true
  } catch (error) {
    failed.add(1)
    throw error
  }
}

function count(status) {
  if (status === grpc.StatusOK) {
    answered.add(1)
  } else if (status === grpc.StatusResourceExhausted) {
    refused.add(1)
  } else {
    failed.add(1)
    console.error(`status ${Number(status)}`)
  }
}

// Explains the image by a method: { grad_cam: {} } and the like.
export function explain(method = { grad_cam: {} }) {
  connect()
  const request = { image: { encoded: image }, methods: [method], prediction_count: 1 }
  const answer = client.invoke('gradserve.v1.ExplainerService/Explain', request, { timeout: '30s' })
  count(answer.status)
  if (answer.status === grpc.StatusOK) {
    check(answer.message, {
      'one explanation': (message) => message.explanations.length === 1,
      'a prediction': (message) => message.predictions.length === 1,
    })
  }
}

// Makes an image and reads the stream to its end.
export function maximize(steps) {
  connect()
  return new Promise((resolve) => {
    const stream = new grpc.Stream(client, 'gradserve.v1.ExplainerService/Maximize', { timeout: '120s' })
    let status = grpc.StatusOK
    let results = 0
    stream.on('data', (message) => {
      results += message.result ? 1 : 0
    })
    stream.on('error', (error) => {
      status = error.code
    })
    stream.on('end', () => {
      count(status)
      if (status === grpc.StatusOK) {
        check(results, { 'one result': (found) => found === 1 })
      }
      resolve()
    })
    stream.write({ objectives: [{ class_score: { class_index: 1 } }], step_count: steps, size: { height: 64, width: 64 } })
    stream.end()
  })
}

// An open model: iterations start when they are due, whether or not earlier ones have ended.
export function arrivals(rate, duration, more = {}) {
  return {
    executor: 'constant-arrival-rate',
    rate: Math.max(1, Math.round(rate * 10)),
    timeUnit: '10s',
    duration,
    preAllocatedVUs: Math.max(4, Math.ceil(rate)),
    maxVUs: Math.max(50, Math.ceil(rate * 30)),
    ...more,
  }
}
