import test from 'ava';
import { forwardTargets } from '../../dist/daemon/config/audit-values.js';

test('receivers are named by URLs, as a list or separated by commas', (t) => {
  t.deepEqual(
    forwardTargets.parse(['syslog+unix:/dev/log', 'syslog+tcp://logs', 'syslog+tls://[::1]:7000', 'http://127.0.0.1:9/a?b']),
    [
      { kind: 'unix', path: '/dev/log' },
      { kind: 'tcp', host: 'logs', port: 6514 },
      { kind: 'tls', host: '::1', port: 7000 },
      { kind: 'http', url: 'http://127.0.0.1:9/a?b' },
    ],
  );
  t.deepEqual(forwardTargets.parse('syslog+unix:///run/log, https://siem.example/in'), [
    { kind: 'unix', path: '/run/log' },
    { kind: 'http', url: 'https://siem.example/in' },
  ]);
  t.deepEqual(forwardTargets.parse(''), []);
});

test('what is no receiver is refused with the rule', (t) => {
  const rules: Array<[string, RegExp]> = [
    ['/dev/log', /must be syslog\+unix/],
    ['syslog+unix:log', /must be/],
    ['syslog+udp://logs:514', /must be syslog/],
    ['syslog+tcp://logs/path', /must be host and port/],
    ['syslog+tcp://', /must be/],
    ['http://logs.example/', /must be https/],
    ['https://user:secret@logs.example/', /must not hold a user/],
    ['https://logs.example/#a', /fragment/],
    ['ftp://logs', /must be syslog/],
    [Array.from({ length: 9 }, (_, n) => `https://a${n}/`).join(), /at most 8/],
  ];
  for (const [text, rule] of rules) {
    const { error } = forwardTargets.safeParse(text);
    t.regex(error?.issues[0]?.message ?? '', rule, text);
  }
});
