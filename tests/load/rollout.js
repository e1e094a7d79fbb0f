// While replicas are restarted one after another: not a single request may fail.
import { arrivals, explain } from './explain.js'

export const options = {
  scenarios: { rollout: arrivals(Number(__ENV.RATE || 4), __ENV.DURATION || '60s', { gracefulStop: '30s' }) },
  thresholds: { checks: ['rate==1'], failed: ['count==0'], refused: ['count==0'], answered: ['count>0'] },
}

export default function () {
  explain()
}
