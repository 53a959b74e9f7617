import test from 'ava';
import { contract } from './contract.js';
import { relayedOverTcp } from './subjects.js';

contract(test, 'binary over TCP', relayedOverTcp);
