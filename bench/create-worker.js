// One client process that makes keys: so many creates under way at once, for the seconds it is asked.
// Arguments: socket, path of the client library.
import { answerMessages } from './processes.js';

const [socket, library] = process.argv.slice(2);
const { connectKms } = await import(library);
const kms = await connectKms(socket);

answerMessages(async ({ inFlight, seconds }) => {
  let made = 0;
  const begun = performance.now();
  const until = begun + seconds * 1000;
  const lane = async (_, n) => {
    for (; performance.now() < until; made++) await kms.createDekForThread(`bench/${n}`);
  };
  await Promise.all(Array.from({ length: inFlight }, lane));
  return { perSecond: (made * 1000) / (performance.now() - begun) };
});
