import type { TestFn } from 'ava';
import { callContract } from './contract-calls.js';
import { keyContract } from './contract-keys.js';
import { messageContract } from './contract-messages.js';
import { rotationContract } from './contract-rotation.js';
import type { Open } from './subjects.js';

/** What a provider of keys must do, also one that is inside a database. */
export function databaseContract(test: TestFn, name: string, open: Open): void {
  keyContract(test, name, open);
  messageContract(test, name, open);
  callContract(test, name, open);
}

/** What every provider must do, wherever its keys are: run unchanged against each of them. */
export function contract(test: TestFn, name: string, open: Open): void {
  keyContract(test, name, open);
  messageContract(test, name, open);
  callContract(test, name, open);
  rotationContract(test, name, open);
}
