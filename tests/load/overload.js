// Far beyond the knee: RATE is five times what the server can do. What it answers must not shrink, what it cannot answer
// it refuses with RESOURCE_EXHAUSTED; nothing fails in any other way, and afterwards it answers as before.
import { arrivals, explain } from './explain.js'

const duration = Number(__ENV.SECONDS || 20)
const rest = Number(__ENV.REST || 35)

export const options = {
  scenarios: {
    overload: arrivals(Number(__ENV.RATE || 100), `${duration}s`, { gracefulStop: `${rest - 5}s` }),
    after: arrivals(1, '5s', { startTime: `${duration + rest}s` }),
  },
  thresholds: {
    failed: ['count==0'],
    'answered{scenario:overload}': ['count>0'],
    'answered{scenario:after}': ['count>=4'],
    'refused{scenario:after}': ['count==0'],
  },
}

export default function () {
  explain()
}
