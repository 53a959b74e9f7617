import test from 'ava';
import { contract } from './contract.js';
import { embeddedFiles } from './subjects.js';

contract(test, 'files', embeddedFiles);
