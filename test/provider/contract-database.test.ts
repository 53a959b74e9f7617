import test from 'ava';
import { databaseContract } from './contract.js';
import { embeddedDatabase } from './subjects.js';

databaseContract(test, 'embedded database', embeddedDatabase);
