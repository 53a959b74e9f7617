import { type Command, InvalidArgumentError } from 'commander';
import { MAX_KEYS_PER_SECOND } from '../limits.js';
import type { Act } from './act.js';
import type { RotateFlags } from './commands/rotation.js';
import type { Output } from './output.js';

/** The commands about what keys are wrapped under, and what opens the store. */
export function addRotation(program: Command, act: Act, output: Output): void {
  const rotate = program
    .command('rotate-kek')
    .description('make a new KEK and move every key to it, while all of them go on serving')
    .option(
      '--new-master-key-file <file>',
      'a key that opens the store from then on; once a start has used it, the old one opens it no more',
    )
    .option('--dry-run', 'change nothing: count the keys and open each of them')
    .option('--keys-per-second <n>', 'keys moved per second at most, 0 is any number', keysPerSecond)
    .option(
      '--abandon <key-id>',
      'leave a key behind whose record cannot be read, with all its data; may be given again',
      repeated,
    )
    .option('--no-wait', 'return once the new KEK is in use');
  act<RotateFlags>(rotate, async (flags, settings) => {
    const { rotateCommand } = await import('./commands/rotation.js');
    return await rotateCommand(flags, settings, output);
  });
  const status = program
    .command('rotation-status')
    .description('show how far a rotation is, and whether one is due')
    .option('--wait', 'until the one under way is complete or blocked');
  act<{ wait?: boolean }>(status, async ({ wait }, settings) => {
    const { rotationStatusCommand } = await import('./commands/rotation.js');
    return await rotationStatusCommand(wait === true, settings, output);
  });
  act(program.command('rewrap <key-id>').description('move one key to the active KEK'), async (_, settings, [keyId]) => {
    const { rewrapCommand } = await import('./commands/rotation.js');
    await rewrapCommand(keyId as string, settings, output);
  });
  addSlots(program, act, output);
}

function addSlots(program: Command, act: Act, output: Output): void {
  const slots = program.command('slots').description('list and change the keys that open the store');
  act(slots.command('list').description('list slots: id, kind, state, when made, when it goes'), async (_, settings) => {
    const { listSlotsCommand } = await import('./commands/slots.js');
    await listSlotsCommand(settings, output);
  });
  const add = slots
    .command('add')
    .description('let another master key open the store, too; for seven days, and for good once a start has used it')
    .requiredOption('--new-master-key-file <file>', 'the key, which `progressdb-kms new-key` makes');
  act<{ newMasterKeyFile: string }>(add, async ({ newMasterKeyFile }, settings) => {
    const { addSlotCommand } = await import('./commands/slots.js');
    await addSlotCommand(newMasterKeyFile, settings, output);
  });
  const confirm = slots
    .command('confirm')
    .description(
      'of a store that daemons share: make the key that this one was started with one to stay, and end those it succeeds',
    )
    .option('--yes', 'that is meant');
  act<{ yes?: boolean }>(confirm, async ({ yes }, settings) => {
    const { confirmSlotCommand } = await import('./commands/slots.js');
    await confirmSlotCommand(yes === true, settings, output);
  });
  const remove = slots
    .command('remove <slot-id>')
    .description('let a key open the store no more')
    .option('--yes', 'that is meant');
  act<{ yes?: boolean }>(remove, async ({ yes }, settings, [slotId]) => {
    const { removeSlotCommand } = await import('./commands/slots.js');
    await removeSlotCommand(slotId as string, yes === true, settings, output);
  });
}

/** The commands about master keys that call no daemon. */
export function addMasterKeys(program: Command, act: Act, output: Output): void {
  act(program.command('new-key <file>').description('make a file with a fresh master key'), async (_, _settings, [file]) => {
    const { newKeyCommand } = await import('./commands/new-key.js');
    await newKeyCommand(file as string, output);
  });
  const check = program.command('unlock-check').description('say whether the master key opens the store, and change nothing');
  act(check, async (_, settings) => {
    const { unlockCheckCommand } = await import('./commands/unlock-check.js');
    await unlockCheckCommand(settings, output);
  });
}

function keysPerSecond(text: string): number {
  if (/^\d{1,9}$/.test(text) && Number(text) <= MAX_KEYS_PER_SECOND) return Number(text);
  throw new InvalidArgumentError(`It must be a whole number up to ${MAX_KEYS_PER_SECOND}.`);
}

function repeated(text: string, before: string[] = []): string[] {
  return [...before, text];
}
