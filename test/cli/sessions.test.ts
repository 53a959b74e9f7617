import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { mismatch, parseSession, playSession } from './session.js';

const SESSIONS = 'test/cli/sessions';

for (const file of readdirSync(SESSIONS).filter((name) => name.endsWith('.txt'))) {
  test.serial(`the command line answers as in the session ${file}`, async (t) => {
    t.timeout(230_000);
    t.true((await playSession(join(SESSIONS, file))) > 0);
  });
}

test('a session that goes another way is noticed', (t) => {
  const names = new Map<string, string>();
  t.is(mismatch(['made [key]', '[...] [key]'], 'made k_1\nagain k_1\n', names), undefined);
  t.is(names.get('key'), 'k_1');
  t.regex(mismatch(['again [key]'], 'again k_2\n', names) ?? '', /expected "again k_1", got "again k_2"/);
  t.regex(mismatch(['one'], 'one\ntwo\n', names) ?? '', /did not expect "two"/);
  t.regex(mismatch(['one', 'two'], 'one\n', names) ?? '', /there was no more/);
  t.regex(mismatch(['...', 'last'], 'one\ntwo\n', names) ?? '', /there was no more/);
  t.is(mismatch(['...', 'last'], 'one\nlast\n', names), undefined);
});

test('a session file is read into its steps', (t) => {
  const steps = parseSession('# about\n$ a command\nout\n! err\n? 3\n\n% start serve\n% stop\n');
  t.deepEqual(
    steps.map(({ kind, text }) => [kind, text]),
    [
      ['$', 'a command'],
      ['%', 'start serve'],
      ['%', 'stop'],
    ],
  );
  t.like(steps[0], { line: 2, stdout: ['out'], stderr: ['err'], exit: 3 });
});
