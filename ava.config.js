/** What takes minutes and seldom differs from what is left: other ways to the same contract, and the longest kills and floods. */
const MORE = [
  ...['bench/run', 'client/spawn', 'daemon/workers/ways-in', 'import/import', 'package/addon', 'shared/two-daemons'],
  ...['large-bodies', 'patience'].map((name) => `threads/${name}`),
  ...['network', 'threads', 'threads-serve'].map((name) => `cli/${name}`),
  ...['barriers', 'disk-errors', 'flood', 'laboratory'].map((name) => `crash/${name}`),
  ...['leaks', 'leaks-damage', 'memory'].map((name) => `secrets/${name}`),
  ...['database-binary', 'database-http', 'database-workers', 'http-tcp', 'https', 'tls', 'workers'].map(
    (way) => `provider/contract-${way}`,
  ),
];

const hasAll = process.env.TEST_ALL === '1';
if (!hasAll) console.error(`left out, and run by TEST_ALL=1 npm test: ${MORE.join(', ')}`);

export default {
  files: ['test/**/*.test.ts', ...(hasAll ? [] : MORE.map((name) => `!test/${name}.test.ts`))],
  typescript: { rewritePaths: { 'test/': 'dist-test/' }, compile: false },
  timeout: '240s',
  // One more than cores, on the smallest machine there is: some wait for most of their time.
  concurrency: 3,
  workerThreads: false,
};
