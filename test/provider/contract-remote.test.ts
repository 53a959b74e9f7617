import test from 'ava';
import { contract } from './contract.js';
import { daemonAndClient } from './subjects.js';

contract(test, 'daemon', daemonAndClient);
