import test from 'ava';
import { contract } from './contract.js';
import { httpOverTcp } from './subjects.js';

contract(test, 'http over TCP', httpOverTcp);
