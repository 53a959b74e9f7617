import type { Command } from 'commander';
import type { Settings } from './settings.js';

/** What a command does: the exit code, 0 where it gives none. */
export type Result = Promise<number | undefined> | Promise<void>;

/** Gives a command its action, which gets the command's own options, the settings, and its arguments. */
export type Act = <Options>(command: Command, work: (options: Options, settings: Settings, args: string[]) => Result) => void;
