import type { KeyObject } from 'node:crypto';
import { join } from 'node:path';
import { createEmbeddedKms, type EmbeddedKms } from '../create.js';
import { MAX_BENCH_ROTATION_MS } from '../limits.js';
import { Blocks, makeKeys, paced, rotate } from './blocks.js';
import { REAL_CLOCK } from './clock.js';
import { type Ground, type Run, runOf } from './embedded-calls.js';
import type { Latencies } from './latencies.js';
import { Messages } from './messages.js';
import { open, plainKeys, seal } from './plain-crypto.js';
import type { Call, EmbeddedQuestion } from './questions.js';
import type { MessageOperation, Sealer } from './sealer.js';
import { answerQuestions, type Tell } from './worker-side.js';

/** Operations between two looks at the clock; one more is timed by itself. */
const UNTIMED = 63;
/** How long the event loop waits at most, so that the end of the parent is heard. */
const TURN_NS = 10e6;

type Open = Extract<EmbeddedQuestion, { do: 'open' }>;

interface Kind {
  run: Run;
  blocks: Blocks;
  messages: Messages;
  verify(): Promise<number>;
}

/** A key service in this process, and node:crypto beside it. */
class Embedded {
  private kms: EmbeddedKms | undefined;
  private plain: KeyObject[] = [];
  private keyIds: string[] = [];
  private operation: MessageOperation = 'encrypt';
  private grounds: Record<'ours' | 'plain', Ground> | undefined;
  private kinds = new Map<Call, Kind>();
  private creates = new Blocks();

  async answer(question: EmbeddedQuestion, tell: Tell): Promise<object> {
    switch (question.do) {
      case 'open':
        return await this.open(question, tell);
      case 'make-keys':
        await makeKeys(this.service, question.count, tell);
        return {};
      case 'prepare':
        return await this.prepare(question.operation, question.size);
      case 'warm-up':
        return await this.block(question.call, question.seconds, new Blocks());
      case 'messages':
        return await this.block(question.call, question.seconds, this.kind(question.call).blocks);
      case 'create':
        return await this.creates.measure(
          paced(question.pace, async () => void (await this.service.createDek())),
          async () => 0,
        );
      case 'rotate':
        return await rotate(this.service, MAX_BENCH_ROTATION_MS);
    }
  }

  private get service(): EmbeddedKms {
    if (this.kms === undefined) throw new Error('there is no key service yet');
    return this.kms;
  }

  private async open({ store, directory, keys, masterKeyFile }: Open, tell: Tell): Promise<object> {
    const files = { dataDir: join(directory, 'embedded-data'), masterKeyFile };
    this.kms = await createEmbeddedKms(store === 'memory' ? { memory: true } : files);
    this.keyIds = await makeKeys(this.kms, keys, tell);
    this.plain = plainKeys(keys);
    return {};
  }

  private async prepare(operation: MessageOperation, size: number): Promise<object> {
    const { plain, keyIds, service } = this;
    const ours = { kms: service, plain, messages: new Messages(keyIds, size) };
    const other = {
      kms: service,
      plain,
      messages: new Messages(
        plain.map((_, index) => `${index}`),
        size,
      ),
    };
    if (operation === 'decrypt') {
      await ours.messages.seal(service);
      await other.messages.seal(this.plainSealer);
    }
    this.operation = operation;
    this.grounds = { ours, plain: other };
    this.kinds = new Map();
    return { keys: operation === 'decrypt' ? ours.messages.keysWithCiphertext : keyIds.length };
  }

  /** node:crypto in the shape of a key service, for what is not timed. */
  private get plainSealer(): Sealer {
    const keyOf = (keyId: string) => this.plain[Number(keyId)] as KeyObject;
    const none = new Uint8Array(0);
    return {
      encryptWithDek: async (keyId, bytes, aad = none) => ({ ciphertext: seal(keyOf(keyId), bytes, aad), keyVersion: '1' }),
      decryptWithDek: async (keyId, bytes, aad = none) => open(keyOf(keyId), bytes, aad),
      close: async () => {},
    };
  }

  private kind(call: Call): Kind {
    const known = this.kinds.get(call);
    if (known !== undefined) return known;
    if (this.grounds === undefined) throw new Error('nothing is prepared');
    const { operation, service, grounds } = this;
    const [ground, sealer] = call === 'node:crypto' ? [grounds.plain, this.plainSealer] : [grounds.ours, service];
    const { messages } = ground;
    const run = runOf(operation, call, ground);
    const kind = { run, blocks: new Blocks(), messages, verify: () => messages.verify(operation, sealer) };
    this.kinds.set(call, kind);
    return kind;
  }

  private block(call: Call, seconds: number, blocks: Blocks): Promise<object> {
    const { run, verify } = this.kind(call);
    return blocks.measure((latencies) => repeated(run, seconds, latencies), verify);
  }
}

/** One operation after another until the time is over. */
async function repeated(run: Run, seconds: number, latencies: Latencies): Promise<{ operations: number; seconds: number }> {
  const { now } = REAL_CLOCK;
  const start = now();
  const end = start + seconds * 1e9;
  let operations = 0;
  let turned = start;
  for (let at = start; at < end; ) {
    // Awaiting what is no promise would cost synchronous calls a turn of the microtasks.
    const untimed = run(UNTIMED);
    if (untimed !== undefined) await untimed;
    const began = now();
    const timed = run(1);
    if (timed !== undefined) await timed;
    at = now();
    latencies.record(at - began);
    operations += UNTIMED + 1;
    if (at - turned < TURN_NS) continue;
    await new Promise((done) => setImmediate(done));
    turned = now();
  }
  return { operations, seconds: (now() - start) / 1e9 };
}

export function embeddedWorker(): Promise<void> {
  const own = new Embedded();
  return answerQuestions<EmbeddedQuestion>((question, tell) => own.answer(question, tell));
}
