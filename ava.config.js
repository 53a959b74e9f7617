/** The contract over these ways is that over others with more around it: minutes, for what seldom differs. */
const MORE = ['contract-database-http', 'contract-database-workers', 'contract-http-tcp', 'contract-https', 'contract-tls'];

const hasAll = process.env.TEST_ALL === '1';
if (!hasAll) console.error(`left out, and run by TEST_ALL=1 npm test: ${MORE.join(', ')}`);

export default {
  files: ['test/**/*.test.ts', ...(hasAll ? [] : MORE.map((name) => `!test/provider/${name}.test.ts`))],
  typescript: { rewritePaths: { 'test/': 'dist-test/' }, compile: false },
  timeout: '240s',
  concurrency: 2,
  workerThreads: false,
};
