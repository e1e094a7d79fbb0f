// Does it work at all: a few requests, none of which may fail.
import { arrivals, explain } from './explain.js'

export const options = {
  scenarios: { smoke: arrivals(Number(__ENV.RATE || 2), __ENV.DURATION || '10s') },
  thresholds: {
    checks: ['rate==1'],
    answered: ['count>0'],
    refused: ['count==0'],
    failed: ['count==0'],
    dropped_iterations: ['count==0'],
  },
}

export default function () {
  explain()
}
