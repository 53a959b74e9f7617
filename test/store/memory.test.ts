import test from 'ava';
import { openMemoryStore } from '../../dist/store/memory.js';
import { keyStoreContract } from './contract.js';

keyStoreContract(test, async () => openMemoryStore());
