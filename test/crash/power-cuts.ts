import { type Disk, type FileNode, type Naming, named } from './disk.js';

/** What a power cut may leave of a file of which something was not synced: the old, the new, a part of it, or zeros where it was to be. */
function remainsOf({ durable, content }: FileNode): Buffer[] {
  if (durable.equals(content)) return [content];
  const isAppended = content.length >= durable.length && content.subarray(0, durable.length).equals(durable);
  if (!isAppended)
    return [durable, content, Buffer.concat([content.subarray(0, content.length >> 1), durable.subarray(content.length >> 1)])];
  const added = content.length - durable.length;
  const half = content.subarray(0, durable.length + (added >> 1));
  const zeros = (length: number) => Buffer.alloc(length);
  return [
    durable,
    content,
    half,
    content.subarray(0, content.length - 1),
    Buffer.concat([durable, zeros(added)]),
    Buffer.concat([half, zeros(added - (added >> 1))]),
  ];
}

interface Choices {
  unsynced: readonly Naming[];
  files: ReadonlyArray<readonly [ino: number, remains: Buffer[]]>;
  /** How many ways each choice has: the namings first, dropped or done, then the files. */
  ways: number[];
}

/** The inodes that have a name after some power cut. */
function nameable(disk: Disk): Set<number | null> {
  const inodes = new Set(disk.unsynced.flatMap((change) => change.map(([, , ino]) => ino)));
  for (const node of disk.nodes.values()) if (node.kind === 'directory') for (const ino of node.durable.values()) inodes.add(ino);
  return inodes;
}

function choicesOf(disk: Disk): Choices {
  const files: Array<readonly [number, Buffer[]]> = [];
  const named = nameable(disk);
  for (const node of disk.nodes.values()) {
    if (node.kind !== 'file' || !named.has(node.ino)) continue;
    const remains = remainsOf(node);
    if (remains.length > 1) files.push([node.ino, remains]);
  }
  const ways = [...disk.unsynced.map(() => 2), ...files.map(([, remains]) => remains.length)];
  return { unsynced: disk.unsynced, files, ways };
}

function outcome(disk: Disk, { unsynced, files }: Choices, picks: readonly number[]): Disk {
  const left = disk.fork();
  for (const node of left.nodes.values()) if (node.kind === 'directory') node.entries = node.durable;
  unsynced.forEach((change, index) => {
    if (picks[index] === 0) return;
    for (const [directory, name, ino] of change) {
      const node = left.directory(directory);
      node.entries = named(node.entries, name, ino);
    }
  });
  files.forEach(([ino, remains], index) => {
    const node = left.nodes.get(ino) as FileNode;
    node.content = remains[picks[unsynced.length + index] as number] as Buffer;
  });
  left.forgetUnsynced();
  return left;
}

function* everyPick(ways: readonly number[]): Generator<number[]> {
  const picks = ways.map(() => 0);
  for (;;) {
    yield [...picks];
    let at = 0;
    while (at < ways.length && picks[at] === (ways[at] as number) - 1) picks[at++] = 0;
    if (at === ways.length) return;
    picks[at] = (picks[at] as number) + 1;
  }
}

/** All old, all new, each alone old or new, each beginning of the changes in their order; then by chance. */
function* somePicks(ways: readonly number[], namings: number, random: () => number): Generator<number[]> {
  const old = ways.map(() => 0);
  const whole = ways.map(() => 1);
  yield old;
  yield whole;
  for (let at = 0; at < ways.length; at += 1) {
    for (let way = 0; way < (ways[at] as number); way += 1) {
      yield whole.with(at, way);
      yield old.with(at, way);
    }
  }
  for (let kept = 1; kept < namings; kept += 1) yield whole.map((way, at) => (at < kept || at >= namings ? way : 0));
  for (;;) yield ways.map((many) => Math.floor(random() * many));
}

/**
 * The disks that a power cut may leave of this one, each once: all of them if their ways are no more than `most`, else that
 * many, with the extremes and the single differences first.
 */
export function powerCuts(disk: Disk, most: number, random: () => number): Map<string, Disk> {
  const choices = choicesOf(disk);
  const all = choices.ways.reduce((product, many) => product * many, 1);
  const left = new Map<string, Disk>();
  const picks = all <= most ? everyPick(choices.ways) : somePicks(choices.ways, choices.unsynced.length, random);
  let drawn = 0;
  for (const pick of picks) {
    const one = outcome(disk, choices, pick);
    const digest = one.digest();
    if (!left.has(digest)) left.set(digest, one);
    drawn += 1;
    if (all > most && (left.size >= most || drawn >= 4 * most)) break;
  }
  return left;
}
