import test from 'ava';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import { threadStoreContract } from './store-contract.js';

threadStoreContract(test, async () => openMemoryThreadStore());
