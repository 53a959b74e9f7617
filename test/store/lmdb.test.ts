import test from 'ava';
import { backupsContract } from './backups-contract.js';
import { keyStoreContract } from './contract.js';
import { newDataDir } from './data-dir.js';
import { openedLmdb } from './lmdb-ground.js';
import { packedContract } from './packed-contract.js';
import { sealedContract } from './sealed-contract.js';

keyStoreContract(test, async (t) => openedLmdb(t, newDataDir(t)));
backupsContract(test, async (t) => openedLmdb(t, newDataDir(t)));
packedContract(test, async (t) => openedLmdb(t, newDataDir(t)));
sealedContract(test, async (t) => openedLmdb(t, newDataDir(t)));
