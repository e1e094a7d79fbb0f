// Explain at an even rate beside streams of Maximize: the many steps of the streams must not starve the short requests.
// Compare the durations of the two scenarios `explain_alone` and `explain_beside`.
import { arrivals, explain, maximize } from './explain.js'

const seconds = Number(__ENV.SECONDS || 20)
const rate = Number(__ENV.RATE || 2)

export const options = {
  scenarios: {
    explain_alone: arrivals(rate, `${seconds}s`, { exec: 'one' }),
    explain_beside: arrivals(rate, `${seconds}s`, { exec: 'one', startTime: `${seconds + 2}s` }),
    streams: {
      executor: 'constant-vus',
      vus: Number(__ENV.STREAMS || 4),
      duration: `${seconds}s`,
      startTime: `${seconds + 2}s`,
      gracefulStop: '60s',
      exec: 'many',
    },
  },
  thresholds: {
    failed: ['count==0'],
    checks: ['rate==1'],
    'answered{scenario:streams}': ['count>0'],
    'grpc_req_duration{scenario:explain_alone}': ['p(95)>=0'],
    'grpc_req_duration{scenario:explain_beside}': ['p(95)>=0'],
  },
}

export function one() {
  explain()
}

export function many() {
  return maximize(Number(__ENV.STEPS || 64))
}
