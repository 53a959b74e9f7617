import test from 'ava';
import { contract } from './contract.js';
import { embeddedMemory } from './subjects.js';

contract(test, 'memory', embeddedMemory);
