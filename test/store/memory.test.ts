import test from 'ava';
import { openMemoryStore } from '../../dist/store/memory.js';
import { backupsContract } from './backups-contract.js';
import { keyStoreContract } from './contract.js';
import { sealedContract } from './sealed-contract.js';

keyStoreContract(test, async () => openMemoryStore());
backupsContract(test, async () => openMemoryStore());
sealedContract(test, async () => openMemoryStore());
