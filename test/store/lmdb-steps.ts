/**
 * The steps that strace has seen end, in order, each with its thread: `sync` of pages, `root` for a write of LMDB that is synced by
 * itself, and what was said to standard output, by its first word. A call whose end is on a line of its own counts there.
 */
export function stepsOf(trace: string, file: string): Array<{ thread: string; step: string }> {
  const synced = new Set<string>();
  const pending = new Map<string, string>();
  const found: Array<{ thread: string; step: string }> = [];
  for (const line of trace.split('\n')) {
    const [, thread, text] = /^(\d+) +(.*)$/.exec(line) ?? [];
    if (thread === undefined || text === undefined) continue;
    if (text.endsWith('<unfinished ...>')) {
      pending.set(thread, text);
      continue;
    }
    const call = text.startsWith('<...') ? `${pending.get(thread)} ${text}` : text;
    const [, path, opened] = /^openat\([^"]*"([^"]*)", .*O_DSYNC.* = (\d+)$/.exec(call) ?? [];
    if (opened !== undefined && path?.endsWith(`/${file}`)) synced.add(opened);
    const [, written] = /^pwrite64\((\d+),/.exec(call) ?? [];
    const [, word] = /^write\(1, "(\w+) /.exec(call) ?? [];
    if (/^fdatasync\(.* = 0$/.test(call)) found.push({ thread, step: 'sync' });
    else if (written !== undefined && synced.has(written)) found.push({ thread, step: 'root' });
    else if (word !== undefined) found.push({ thread, step: word });
  }
  return found;
}
