import test from 'ava';
import { databaseContract } from './contract.js';
import { workersDatabase } from './subjects.js';

databaseContract(test, 'database of a daemon with workers', workersDatabase);
