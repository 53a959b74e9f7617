import test from 'ava';
import { contract } from './contract.js';
import { workersAndClient } from './subjects.js';

contract(test, 'daemon with workers', workersAndClient);
