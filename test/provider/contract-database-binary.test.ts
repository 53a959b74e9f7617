import test from 'ava';
import { databaseContract } from './contract.js';
import { binaryDatabase } from './subjects.js';

databaseContract(test, 'database over the binary protocol', binaryDatabase);
