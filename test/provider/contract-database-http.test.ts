import test from 'ava';
import { databaseContract } from './contract.js';
import { httpDatabase } from './subjects.js';

databaseContract(test, 'database over http', httpDatabase);
