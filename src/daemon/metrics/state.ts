import { binding, COUNTS } from '../../native.js';
import type { Health } from '../../provider.js';
import { SURFACES, type Surface } from '../counters.js';
import type { Service } from '../operations.js';
import { Census, KEY_STATES } from './census.js';
import { databaseSeries } from './databases.js';
import { rotationSeries } from './rotation.js';
import { counter, each, gauge, one, type Sample, type Series } from './series.js';

const PROTECTIONS = ['secretmem', 'mlock', 'none'] as const;

/** What the listener knows. */
export interface Watched {
  connectionsOf(surface: Surface): number;
  heldBytes(): number;
  /** That serve the binary protocol, and how often one took another's place. */
  threads(): { workers: number; replaced: number };
  /** Milliseconds since 1970; undefined where there is none. */
  tlsExpiries(): Partial<Record<TlsFile, number | undefined>>;
}

const TLS_FILES = ['certificate', 'revocation_list'] as const;
type TlsFile = (typeof TLS_FILES)[number];

function cacheSeries({ kms }: Service): Series[] {
  const counted = (at: number) => one(binding.readCounts()[at]!);
  return [
    gauge('keys_cached', 'Data keys in the vault.', () => one(kms.cachedKeys)),
    gauge('cipher_contexts', 'Keyed cipher contexts of all threads.', () => counted(COUNTS.contexts)),
    gauge('arena_keys', 'Places for keys in locked memory that are taken.', () => one(binding.arenaInfo().used)),
    gauge('arena_capacity_keys', 'Places for keys in locked memory.', () => one(binding.arenaInfo().capacity)),
    counter('key_cache_hits_total', 'Uses of a key that was in the vault.', () => counted(COUNTS.hits)),
    counter('key_cache_misses_total', 'Uses that found their key missing.', () => counted(COUNTS.misses)),
    counter('key_cache_evictions_total', 'Keys wiped to make room, or because they were idle.', () => {
      const counts = binding.readCounts();
      return each('reason', ['room', 'idle'], (why) => counts[why === 'room' ? COUNTS.evictedForRoom : COUNTS.evictedIdle]!);
    }),
  ];
}

function keySeries({ kms }: Service, health: () => Promise<Health>): Series[] {
  const census = new Census(kms);
  const created = (times: Record<'oldest' | 'newest', number | undefined>): Sample[] =>
    (['oldest', 'newest'] as const).flatMap((which) => {
      const value = times[which];
      return value === undefined ? [] : [{ labels: { which }, value: value / 1_000 }];
    });
  return [
    gauge('keys', 'Keys in the store, counted at most once a minute.', async () => {
      const { byState } = await census.look();
      return each('state', KEY_STATES, (state) => byState[state]);
    }),
    gauge('key_created_timestamp_seconds', 'When the oldest and the newest key that is not destroyed was made.', async () =>
      created(await census.look()),
    ),
    gauge('key_census_complete', '0 if only a part of the store was counted.', async () =>
      one(Number((await census.look()).isComplete)),
    ),
    gauge('keys_near_limit', 'Used keys beyond 2^31 reserved encryptions.', async () =>
      one((await health()).keysNearLimit.length),
    ),
    gauge('damaged_records', 'Records that were met and do not verify.', async () => one((await health()).damagedRecords.length)),
  ];
}

/** What the service is and has at the moment. */
export function stateSeries(service: Service, watched: Watched): Series[] {
  const { kms, version } = service;
  const { openssl } = binding.arenaInfo();
  const health = () => kms.health();
  return [
    gauge('build_info', 'What runs here.', () => [{ labels: { version, node: process.versions.node, openssl }, value: 1 }]),
    gauge('connections', 'Open connections that have spoken.', () =>
      each('surface', SURFACES, (surface) => watched.connectionsOf(surface)),
    ),
    gauge('held_bytes', 'Memory held for requests and answers that are unfinished.', () => one(watched.heldBytes())),
    gauge('workers', 'Threads that serve the binary protocol.', () => one(watched.threads().workers)),
    counter('workers_replaced_total', 'Worker threads made in place of one that ended.', () => one(watched.threads().replaced)),
    ...cacheSeries(service),
    ...keySeries(service, health),
    ...databaseSeries(kms),
    ...rotationSeries(kms),
    gauge('store_write_latch', '1 while the store refuses writes.', async () =>
      one(Number((await health()).storeFault !== null)),
    ),
    gauge('tls_expiry_timestamp_seconds', 'When the certificate, and the first revocation list, have to be replaced.', () => {
      const expiries = watched.tlsExpiries();
      return TLS_FILES.flatMap((file) => {
        const value = expiries[file];
        return value === undefined ? [] : [{ labels: { file }, value: value / 1_000 }];
      });
    }),
    gauge('sealed', '1 while sealed.', () => one(Number(kms.sealed))),
    gauge('protection', '1 for the level of memory protection that holds.', () =>
      each('level', PROTECTIONS, (level) => Number(binding.arenaInfo().protection === level)),
    ),
  ];
}
