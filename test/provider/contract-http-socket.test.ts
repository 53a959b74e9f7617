import test from 'ava';
import { contract } from './contract.js';
import { httpOverSocket } from './subjects.js';

contract(test, 'http on a socket', httpOverSocket);
