import test from 'ava';
import { contract } from './contract.js';
import { binaryOverTcp } from './subjects.js';

contract(test, 'binary over TCP', binaryOverTcp);
