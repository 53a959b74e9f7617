import test from 'ava';
import { contract } from './contract.js';
import { httpOverTls } from './subjects.js';

contract(test, 'http over TLS', httpOverTls);
