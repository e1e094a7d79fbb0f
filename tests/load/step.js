// Finds the knee: RATES one after another, each its own scenario, so that the summary tells them apart. The knee is the
// last rate whose p95 is near the first one's and that dropped nothing.
import { arrivals, explain } from './explain.js'

const rates = (__ENV.RATES || '2,4,8,12,16,24,32').split(',').map(Number)
const seconds = Number(__ENV.SECONDS || 20)
const pause = 5

export const options = {
  scenarios: Object.fromEntries(
    rates.map((rate, index) => [
      `at_${rate}`,
      arrivals(rate, `${seconds}s`, { startTime: `${index * (seconds + pause)}s`, gracefulStop: `${pause}s` }),
    ]),
  ),
  // Always true: naming a metric by scenario is what puts it into the summary.
  thresholds: Object.fromEntries(
    rates.flatMap((rate) => [
      [`grpc_req_duration{scenario:at_${rate}}`, ['p(95)>=0']],
      [`answered{scenario:at_${rate}}`, ['count>=0']],
      [`refused{scenario:at_${rate}}`, ['count>=0']],
      [`dropped_iterations{scenario:at_${rate}}`, ['count>=0']],
    ]),
  ),
  summaryTrendStats: ['med', 'p(95)', 'p(99)', 'max'],
}

export default function () {
  explain()
}
