// How far a run is: a bar where somebody looks, lines otherwise.
import { SingleBar } from 'cli-progress';

const minutes = (ms) => `${Math.floor(ms / 60_000)}:${String(Math.floor(ms / 1000) % 60).padStart(2, '0')}`;

function lines(stream, total) {
  const say = (text) => stream.write(`${text}\n`);
  return { say, begin: (name, done) => say(`part ${done + 1} of ${total}: ${name}`), ended() {}, stop() {} };
}

function bar(stream, total) {
  const started = Date.now();
  const shown = { part: '', text: '', passed: '0:00' };
  const drawn = new SingleBar({
    stream,
    format: '{bar} part {part} · {passed} · {text}',
    barCompleteChar: '█',
    barIncompleteChar: '░',
    barsize: 24,
    hideCursor: true,
    clearOnComplete: true,
    forceRedraw: true,
    // Longer than the terminal it would leave a line behind with each redraw.
    linewrap: false,
  });
  let done = 0;
  const show = (news) => drawn.update(done, Object.assign(shown, news, { passed: minutes(Date.now() - started) }));
  drawn.start(total, 0, shown);
  // A run that is interrupted must give the terminal its cursor back; a second stop does nothing.
  const stop = () => drawn.stop();
  process.once('exit', stop);
  const clock = setInterval(() => show({}), 1000).unref();
  return {
    say: (text) => show({ text }),
    begin: (name, before) => show({ part: `${before + 1} of ${total}`, text: name }),
    ended: () => show({ text: '', done: done++ }),
    stop: () => {
      clearInterval(clock);
      process.removeListener('exit', stop);
      stop();
    },
  };
}

/** Of `total` parts: `begin(name, done)` and `ended()` around each, `say(text)` for what is under way in it. */
export function progressOf(total, stream = process.stderr) {
  return stream.isTTY ? bar(stream, total) : lines(stream, total);
}
