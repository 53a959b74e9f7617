import test from 'ava';
import { backupsContract } from './backups-contract.js';
import { keyStoreContract } from './contract.js';
import { newDataDir } from './data-dir.js';
import { openedLmdb } from './lmdb-ground.js';

keyStoreContract(test, async (t) => openedLmdb(t, newDataDir(t)));
backupsContract(test, async (t) => openedLmdb(t, newDataDir(t)));
