import test from 'ava';
import { contract } from './contract.js';
import { binaryOverTls } from './subjects.js';

contract(test, 'binary over TLS', binaryOverTls);
