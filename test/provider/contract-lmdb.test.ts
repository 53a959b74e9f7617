import test from 'ava';
import { contract } from './contract.js';
import { embeddedLmdb } from './subjects.js';

contract(test, 'lmdb', embeddedLmdb);
