// The AWS Encryption SDK at its fastest: data keys cached, under a raw key in this process, no signatures.
import {
  AlgorithmSuiteIdentifier,
  buildClient,
  CommitmentPolicy,
  getLocalCryptographicMaterialsCache,
  NodeCachingMaterialsManager,
  RawAesKeyringNode,
  RawAesWrappingSuiteIdentifier,
} from '@aws-crypto/client-node';

const CACHED_MS = 3_600_000;
/** It derives a key for each message from the cached one. */
const ALGORITHM = 'AES-256-GCM, HKDF-SHA256';

/** Fails where the cache is not what serves: a key made or unwrapped for each message would be another measurement. */
function countingCache() {
  const cache = getLocalCryptographicMaterialsCache(16);
  const counts = { put: 0 };
  for (const name of ['putEncryptionMaterial', 'putDecryptionMaterial']) {
    const put = cache[name];
    cache[name] = (...values) => {
      counts.put++;
      return put.apply(cache, values);
    };
  }
  const serves = () => counts.put <= 2;
  return { cache, serves };
}

export async function variants({ plaintext, aad, rawKey, asynchronous }) {
  // The suites without a key commitment are those without its cost; they have to be asked for.
  const { encrypt, decrypt } = buildClient(CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT);
  const unencryptedMasterKey = new Uint8Array(new ArrayBuffer(rawKey.length));
  unencryptedMasterKey.set(rawKey);
  const backingMaterials = new RawAesKeyringNode({
    keyNamespace: 'bench',
    keyName: 'bench',
    unencryptedMasterKey,
    wrappingSuite: RawAesWrappingSuiteIdentifier.AES256_GCM_IV12_TAG16_NO_PADDING,
  });
  const { cache, serves } = countingCache();
  const materials = new NodeCachingMaterialsManager({ backingMaterials, cache, maxAge: CACHED_MS, partition: 'bench' });
  const order = {
    suiteId: AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA256,
    encryptionContext: { aad: aad.toString('base64') },
  };
  const { result: sealed } = await encrypt(materials, plaintext, order);
  const same = (opened) => serves() && plaintext.equals(opened.plaintext);
  return {
    'AWS Encryption SDK': () => {
      const loop = asynchronous(() => encrypt(materials, plaintext, order));
      return {
        operation: 'encrypt',
        algorithm: ALGORITHM,
        ...loop,
        works: async ({ result }) => same(await decrypt(materials, result)),
      };
    },
    'AWS Encryption SDK decrypt': () => {
      const loop = asynchronous(() => decrypt(materials, sealed));
      return { operation: 'decrypt', algorithm: ALGORITHM, ...loop, works: same };
    },
  };
}
