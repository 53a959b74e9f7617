import { readFileSync, writeFileSync } from 'node:fs';
import { connectAs } from '../client/caller-files.js';
import type { KmsClient } from '../client/kms-client.js';
import { KmsError } from '../errors.js';
import { MAX_BENCH_ROTATION_MS } from '../limits.js';
import { Blocks, makeKeys, paced, rotate } from './blocks.js';
import { Messages } from './messages.js';
import { plainClient } from './plain-client.js';
import { plainKeyId } from './plain-crypto.js';
import type { GeneratorQuestion, Pace, Target } from './questions.js';
import type { MessageOperation, Sealer } from './sealer.js';
import { answerQuestions, type Tell } from './worker-side.js';

/** Sends requests to one server, of which each answer is looked at. */
class Generator {
  private sealers: Sealer[] = [];
  /** The same, where they are key services. */
  private services: KmsClient[] = [];
  private keyIds: string[] = [];
  private messages: Messages | undefined;
  private blocks = new Blocks();

  async answer(question: GeneratorQuestion, tell: Tell): Promise<object> {
    switch (question.do) {
      case 'connect':
        return await this.connect(question.target, question.connections, question.sockets);
      case 'make-keys':
        writeFileSync(question.file, (await makeKeys(this.service, question.count, tell)).join('\n'), { mode: 0o600 });
        return {};
      case 'add-keys':
        await makeKeys(this.service, question.count, tell);
        return {};
      case 'read-keys':
        this.keyIds = readFileSync(question.file, 'latin1').split('\n');
        return {};
      case 'number-keys':
        this.keyIds = Array.from({ length: question.count }, (_, index) => plainKeyId(index));
        return {};
      case 'prepare':
        return await this.prepare(question.operation, question.size);
      case 'warm-up':
        return await this.warmUp(question.operation, question.pace);
      case 'messages':
        return await this.measure(question.operation, question.pace);
      case 'create':
        return await this.create(question.pace);
      case 'rotate':
        return await rotate(this.service, MAX_BENCH_ROTATION_MS);
    }
  }

  private get service(): KmsClient {
    const [service] = this.services;
    if (service === undefined) throw new KmsError('INTERNAL', 'there is no key service to ask');
    return service;
  }

  private async connect(target: Target, connections: number, sockets: number): Promise<object> {
    await Promise.all(this.sealers.map((sealer) => sealer.close()));
    this.blocks = new Blocks();
    if (target.kind === 'plain') {
      this.sealers = [plainClient(target.socket, sockets)];
      return {};
    }
    const { endpoint, caller, serverUids } = target;
    const options = { endpoint, serverUids, maxSockets: sockets };
    this.services = await Promise.all(Array.from({ length: connections }, () => connectAs(caller, options)));
    this.sealers = this.services;
    return {};
  }

  private async prepare(operation: MessageOperation, size: number): Promise<object> {
    this.blocks = new Blocks();
    this.messages = new Messages(this.keyIds, size);
    if (operation === 'decrypt') await this.messages.seal(this.sealers[0] as Sealer);
    return { keys: operation === 'decrypt' ? this.messages.keysWithCiphertext : this.keyIds.length };
  }

  private async warmUp(operation: MessageOperation, pace: Pace): Promise<object> {
    const messages = this.messages as Messages;
    const blocks = new Blocks();
    return await blocks.measure(paced(pace, messages.operation(operation, this.sealers)), async () =>
      messages.verify(operation, this.sealers[0] as Sealer),
    );
  }

  private async measure(operation: MessageOperation, pace: Pace): Promise<object> {
    const messages = this.messages as Messages;
    return await this.blocks.measure(paced(pace, messages.operation(operation, this.sealers)), () =>
      messages.verify(operation, this.sealers[0] as Sealer),
    );
  }

  private async create(pace: Pace): Promise<object> {
    const { services } = this;
    const made: string[] = [];
    const create = async (index: number) => {
      const { keyId } = await (services[index % services.length] as KmsClient).createDek();
      if (made.length < 8) made.push(keyId);
    };
    return await this.blocks.measure(paced(pace, create), async () => {
      for (const keyId of made) await this.service.describeKey(keyId);
      return made.length;
    });
  }
}

export function generator(): Promise<void> {
  const own = new Generator();
  return answerQuestions<GeneratorQuestion>((question, tell) => own.answer(question, tell));
}
