/** Every bound of the service in one place, each with its reason. `assertLimits` checks how they hang together. */

const KIB = 1024;
const MIB = 1024 * KIB;

export const KEY_BYTES = 32;
/** Of Ed25519 (RFC 8032) and X25519 (RFC 7748). */
export const PUBLIC_KEY_BYTES = 32;
export const NONCE_BYTES = 12;
export const TAG_BYTES = 16;
/** What a thread-key ciphertext is longer than its plaintext: nonce and tag. */
export const CIPHERTEXT_OVERHEAD = NONCE_BYTES + TAG_BYTES;
/** A wrapped key: nonce, 32 bytes, tag. */
export const WRAPPED_BYTES = KEY_BYTES + CIPHERTEXT_OVERHEAD;
/** Version byte and 128-bit key id before a ciphertext that names its own key. */
export const SEALED_HEADER_BYTES = 17;

/** A frame's length has 24 significant bits, so that its first byte is always zero: it tells binary from HTTP. */
export const MAX_FRAME_BYTES = 16 * MIB - 1;
/** Data up to this size is sealed on the event loop; a hop to the pool costs more than it saves below it (measured). */
export const INLINE_BYTES = 256 * KIB;
/** One read of a socket. Larger chunks amortise a call better and stop paying at this size (measured). */
export const READ_BUFFER_BYTES = 512 * KIB;
/** Room before the read buffer for the unfinished frame of the chunk before: an inline message and its wrapping. */
export const READ_HEADROOM_BYTES = INLINE_BYTES + 8 * KIB;
/** One response buffer: what a full chunk of frames can answer, so that one chunk is one write. */
export const RESPONSE_BUFFER_BYTES = READ_HEADROOM_BYTES + READ_BUFFER_BYTES + 64 * KIB;
/** The largest plaintext of one call: a frame less ids, AAD of the usual size and the ciphertext's own overhead. */
export const MAX_PLAINTEXT_BYTES = 15 * MIB;
export const MAX_AAD_BYTES = 64 * KIB;
/** Items of one `encrypt_many`: bounds the array before it is walked. */
export const MAX_BATCH_ITEMS = 65_536;

/** The body of one HTTP request: the largest plaintext and AAD in base64, and a batch of as much data. */
export const MAX_HTTP_BODY_BYTES = 24 * MIB;
/** The longest answer that a client reads: what the items of the largest batch grow by, in base64 and JSON, comes on top. */
export const MAX_HTTP_ANSWER_BYTES = 32 * MIB;

/** Cold requests of one connection under way at once; the next one is answered BUSY. */
export const MAX_COLD_IN_FLIGHT = 1024;
/** Bytes that cold requests of one connection may hold at once: two frames of the largest size. */
export const MAX_COLD_BYTES = 2 * (MAX_FRAME_BYTES + 1);
/** The same for all connections together, with the frames still coming in: what one uid could hold otherwise is gigabytes. */
export const MAX_HELD_BYTES = 256 * MIB;
/** Of that, one identity's, over all of its connections: who fills its part leaves the others theirs. */
export const MAX_HELD_BYTES_PER_IDENTITY = MAX_HELD_BYTES / 2;
/** Cold requests of one identity under way at once: small ones take up more in promises than in bytes, a few KiB each. */
export const MAX_COLD_PER_IDENTITY = 8 * MAX_COLD_IN_FLIGHT;
/** Identities that are counted apart: tokens are fewer, subjects of others' tokens and certificates may be any number. */
export const MAX_ACCOUNTS = 16_384;
/** How far ahead of its rate an identity may be before it is refused: so long it is not read from at most, and then once more. */
export const MAX_DEBT_MS = 1_000;
/** A connection's refusals for its rate come at this distance: over HTTP nothing else would hold back who asks again at once. */
export const REFUSAL_DISTANCE_MS = 1_000;
export const DEFAULT_BURST_MS = 1_000;
/** Bodies above this are worked on one at a time. */
export const LARGE_HTTP_BODY_BYTES = MIB;
/** Separators in the JSON of the largest batch with an AAD for each item, and brackets, of which no request has many. */
export const MAX_JSON_COMMAS = 2 * MAX_BATCH_ITEMS + 16;
export const MAX_JSON_OPENINGS = 16;
/** A frame of a connection that is nobody's yet: a hello with the longest token. */
export const ANONYMOUS_FRAME_BYTES = 9 * KIB;
/** Requests of one HTTP connection under way at once: who pipelines without reading is told to wait by answers of a line each. */
export const MAX_HTTP_IN_FLIGHT = 64;
/** All header lines of one request: far more than any client of ours sends, with room for a proxy's. */
export const MAX_HTTP_HEADER_BYTES = 16 * KIB;
/** Which keys which narrowed tokens are for, remembered: reading a record for it each time would cost more than the encryption. */
export const MAX_REMEMBERED_POLICIES = 262_144;
/** Ways in which identities are narrowed, remembered: with `own` one for each of them. */
export const MAX_POLICIES = 65_536;
/** How long an HTTP connection may be kept alive between requests: longer than the pools of common clients keep theirs. */
export const HTTP_IDLE_TIMEOUT_MS = 10 * 60_000;

/** Connections of one daemon, and of one uid: below the usual file limit of 1,024 with room for the store. */
export const MAX_CONNECTIONS = 768;
export const MAX_CONNECTIONS_PER_UID = 512;
/** Connections of one identity that did not come as a uid: by a token or a certificate. */
export const MAX_CONNECTIONS_PER_IDENTITY = MAX_CONNECTIONS_PER_UID;
/** TCP connections of which the kernel cannot tell the uid: whoever can open many of them must not shut out the others. */
export const MAX_UNKNOWN_CONNECTIONS = 256;
/** A peer that connects and says nothing holds a descriptor no longer than this. */
export const FIRST_BYTE_TIMEOUT_MS = 5_000;
/** A frame once begun must end within this time. */
export const FRAME_TIMEOUT_MS = 30_000;
/** A client that does not read its answers is dropped after this time. */
export const WRITE_STALL_TIMEOUT_MS = 30_000;
/** How long a peer whose connection we end may go on sending, for nothing: closed on unread bytes, it might lose its last answers. */
export const LINGER_MS = 500;
/** Threads that serve connections: each has buffers and contexts of its own, and no machine that runs this has more cores to spare. */
export const MAX_WORKERS = 64;
/** Sweeps that a worker may leave unanswered before no more connections are given to it: it answers in microseconds, or it is hung. */
export const WORKER_QUIET_SWEEPS = 3;
/** And before it is ended, and its connections with it: longer than a machine that swaps keeps a thread from running. */
export const WORKER_HUNG_SWEEPS = 30;
/** How long a stop waits for a worker whose connections are closed. */
export const WORKER_END_MS = 5_000;
/** How long a graceful stop waits for requests under way. */
export const STOP_GRACE_MS = 10_000;

/** Keys kept unwrapped, and how long an unused one stays. */
export const DEFAULT_ARENA_BYTES = 4 * MIB;
export const DEFAULT_CACHED_KEYS = 50_000;
export const DEFAULT_KEY_IDLE_MS = 15 * 60_000;
/** Keyed cipher contexts kept per thread: beyond a few thousand their cache misses cost more than keying (measured). */
export const DEFAULT_KEPT_CONTEXTS = 4_096;
export const DEFAULT_CONTEXT_IDLE_MS = 60_000;
/** A core is kept busy for so long after each request: who comes less often than this had better wake somebody up. */
export const MAX_SPIN_US = 10_000;
/** The furthest a timer of Node reaches: one beyond it would ring at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1;
/** How often idle keys and contexts are looked for. */
export const SWEEP_INTERVAL_MS = 1_000;

/** Encryptions under one random-nonce AES-GCM key: NIST SP 800-38D, section 8.3. */
export const MAX_USES = 2 ** 32;
/** Where the default key is succeeded and a thread key is reported as due. */
export const SOFT_USES = 2 ** 31;
/** Uses reserved by the create itself, then in blocks that double from the first to the second of these. */
export const FIRST_USES = 1_024;
export const MIN_USE_BLOCK = 2 ** 10;
export const MAX_USE_BLOCK = 2 ** 20;
/** Wraps of a KEK, whose own nonce limit is counted the same way: few for a command that makes one key, then doubling. */
export const FIRST_WRAP_BLOCK = 2 ** 6;
export const LAST_WRAP_BLOCK = 2 ** 14;
/** How long a clean stop spends on returning unused reservations. What is not returned is lost, never under-counted. */
export const RETURN_USES_MS = 2_000;

/** The version of a KEK has 32 bits in a record. */
export const MAX_KEK_VERSION = 2 ** 32 - 1;
/** When a rotation is due: after a year, as NIST SP 800-57 part 1 has it for symmetric key-wrapping keys, or at half of the wraps. */
export const KEK_DUE_DAYS = 365;
export const KEK_DUE_WRAPS = 2 ** 31;
/** Slots of a keyring: docs/FORMATS.md. */
export const MAX_SLOTS = 64;
/** Slots that no start has used yet: who may add them over the wire must not fill the keyring. */
export const MAX_WAITING_SLOTS = 4;
/** How long one that was added over the wire awaits its first start. */
export const SLOT_LIFE_MS = 7 * 24 * 3_600_000;
/** Records that a rotation works on at once: as many as share one fsync of a directory, and leave others their turn. */
export const ROTATION_WIDTH = 64;
/** Keys that a rotation encrypts a probe under before, and opens it with afterwards. */
export const ROTATION_PROBES = 16;
/** Keys named that hold a rotation up; the others show once these are mended. */
export const MAX_BLOCKERS = 100;
/** Rotations of which the backups stay unless told. */
export const DEFAULT_KEEP_BACKUPS = 1;

export const MAX_RECORD_BYTES = 4 * KIB;
/** The longest packed record: docs/FORMATS.md. */
export const MAX_PACKED_BYTES = 731;
/** A record of a database, padded and sealed, or what its secret is completed by: docs/FORMATS.md. */
export const MAX_SEALED_DOCUMENT_BYTES = 4 * KIB;
/** Databases that one identity may make: a small file each, and as many tenants as one service has. */
export const DEFAULT_DATABASES_PER_IDENTITY = 1_000;
/** Keys in one database, destroyed ones too: a listing opens them all, in some seconds, and remembers their ids, some 15 MB. */
export const DEFAULT_KEYS_PER_DATABASE = 100_000;
/** A secret is 172 characters at most: what is longer is not looked at. */
export const MAX_DATABASE_SECRET_BYTES = 256;
/** Databases open at once: each takes a handful of the arena's cells beside its cached keys. */
export const MAX_OPEN_DATABASES = 4_096;
/** Keys of databases that nobody has open of which it is remembered how many reserved uses are left. */
export const MAX_REMEMBERED_RESTS = 65_536;
/** How often openings of databases are written to the audit log, and of how many databases and identities singly. */
export const OPENINGS_INTERVAL_MS = 1_000;
export const MAX_OPENING_GROUPS = 1_000;
/** Directories of databases kept open, two descriptors each: far below the usual limit of 1,024. */
export const MAX_OPEN_DIRECTORIES = 64;
export const MAX_KEYRING_BYTES = MIB;
export const MAX_KEY_FILE_BYTES = 4 * KIB;
/** A configuration is a page of text; the parser needs many times its size. */
export const MAX_CONFIG_BYTES = MIB;
/** A client's kms.json: an address and a secret. */
export const MAX_KMS_JSON_BYTES = 16 * KIB;
/** A certificate chain, all authorities of a fleet, or their revocation lists. */
export const MAX_TLS_FILE_BYTES = 8 * MIB;
/** From when on the log warns of a certificate or revocation list that runs out: two weeks. */
export const TLS_EXPIRY_NOTICE_MS = 14 * 24 * 3_600_000;
/** Keys listed by one call, and records read for it at most (a filter may pass over many). */
export const MAX_LIST_LIMIT = 1_000;
export const LIST_SCAN_LIMIT = 4_096;

/** Keys that one rotation can be told to leave behind: each is named by hand, and stands in the audit log. */
export const MAX_ABANDONED_KEYS = 1_000;
/** Beyond what any store writes: a larger throttle is a mistake for none. */
export const MAX_KEYS_PER_SECOND = 1_000_000;
/** PATH_MAX of Linux with its closing zero. */
export const MAX_PATH_BYTES = 4_095;

/**
 * How long keys are counted for `/metrics`, and how often: no longer than a scrape waits, and for no more than a hundredth of the
 * time.
 */
export const CENSUS_TIME_MS = 4_000;
export const CENSUS_INTERVAL_MS = 60_000;
export const CENSUS_SHARE = 100;
/** Keys counted in one step: what is read of each takes about a microsecond where records are at hand. */
export const GLANCE_KEYS = 1_000;

/** One line of the audit log with its line feed: whoever reads it may hold a line at a time. */
export const MAX_AUDIT_LINE_BYTES = 8 * KIB;

/** Access tokens of one store: each of a fleet's services has one, and each request looks one up in memory. */
export const MAX_TOKENS = 1_024;
export const MAX_TOKEN_FILE_BYTES = MIB;
/** What one token of the longest name and all roles takes in the file, without thread prefixes. */
export const TOKEN_ENTRY_BYTES = 640;
/** Thread prefixes of one token: they are compared one after the other. */
export const MAX_THREAD_PREFIXES = 16;
/** How long a revoked token may go on: the token file is looked at when a token is used, this often at most. */
export const TOKEN_LOOK_MS = 250;
/** How long a command waits for another one that changes the tokens. Each holds the lock for a few fsyncs. */
export const TOKEN_LOCK_WAIT_MS = 30_000;
/** The longest life that can be asked for: ten years. */
export const MAX_TOKEN_DAYS = 3_650;

/** The longest JWT that is looked at: those with many groups in them have some 4 KiB. Clients send no longer token. */
export const MAX_JWT_BYTES = 8 * KIB;
/** How far ahead a JWT's expiry may lie, beside the clock skew: nobody can take one back before it. */
export const MAX_JWT_LIFE_MS = 24 * 60 * 60_000;
/** Verified JWTs remembered until they expire: a signature costs more than the request that comes with it. */
export const MAX_REMEMBERED_JWTS = 4_096;
/** JWTs of one connection being verified at once: it comes with one, and who forges many must not take the places of others. */
export const MAX_JWTS_PER_CONNECTION = 2;
/** Of all connections together; and those that may wait for keys to be fetched, which are fetched for whatever key is named. */
export const MAX_JWTS_IN_FLIGHT = MAX_CONNECTIONS * MAX_JWTS_PER_CONNECTION;
export const MAX_JWTS_AWAITING_KEYS = 16;
/** An issuer's public keys: two to ten of up to 2 KiB, with their certificates. */
export const MAX_JWKS_BYTES = 256 * KIB;
export const MAX_JWKS_KEYS = 256;
/** How long an issuer may take for its keys, how old they are when they are fetched again, and when they are used no more. */
export const JWKS_FETCH_TIMEOUT_MS = 3_000;
export const JWKS_REFRESH_MS = 10 * 60_000;
export const JWKS_STALE_MS = 60 * 60_000;
/** How often a key that the issuer did not have may have it asked again; and how soon after it could not be reached. */
export const JWKS_COOLDOWN_MS = 30_000;
export const JWKS_RETRY_MS = 5_000;

/** One read of a log that is verified: more of it at once is no faster (measured). */
export const AUDIT_READ_BYTES = MIB;
/** Anchors of one file: a line a day for a century, and it is read whole. */
export const MAX_ANCHOR_FILE_BYTES = 32 * MIB;
/** Rollbacks that a report names one by one; more are counted. */
export const MAX_NAMED_ROLLBACKS = 100;

/** Lines that wait for one receiver, and their bytes: some minutes of its absence; what comes then is dropped and counted. */
export const FORWARD_QUEUE_LINES = 65_536;
export const FORWARD_QUEUE_BYTES = 16 * MIB;
/** Lines handed over at once: a receiver that takes only some of them gets no more than these again. */
export const FORWARD_BATCH_LINES = 1_024;
export const FORWARD_BATCH_BYTES = 256 * KIB;
/** How long a receiver may take to admit us, and to take what it is sent. */
export const FORWARD_CONNECT_MS = 10_000;
export const FORWARD_STALL_MS = 30_000;
/** How soon after a failure it is tried again, at first and at most. */
export const FORWARD_RETRY_MS = 250;
export const FORWARD_MAX_RETRY_MS = 30_000;
/** How long a stop waits for receivers: the lines are in the file. */
export const FORWARD_CLOSE_MS = 2_000;
export const MAX_FORWARD_TARGETS = 8;

export const TOKEN_ID_PATTERN = /^[0-9a-f]{16}$/;
/** No spaces and nothing that moves a terminal's cursor: names are printed in a table. */
export const TOKEN_NAME_PATTERN = /^[A-Za-z0-9._:@/-]{0,64}$/;
/** The value of one member that is special to a type. */
export const MAX_AUDIT_TEXT = 512;
/** How often what data operations have done is written. */
export const AUDIT_INTERVAL_MS = 100;
/** Lines that the disk has not taken: beyond these nothing is begun that would make more of them. */
export const AUDIT_WAITING_BYTES = 4 * MIB;
/** Lines of data operations made in one go: bounds how far apart checkpoints may be. */
export const AUDIT_DRAIN_BYTES = 128 * KIB;
/** A signature stands at least so often: a start has to read no further back, and a verifier says no more vaguely what is wrong. */
export const CHECKPOINT_LINES = 1_000;
export const CHECKPOINT_MS = 10_000;
/** Checkpoints after which another key signs; each start brings one, too. */
export const CHECKPOINTS_PER_KEY = 10_000;
/** Given up when the disk is full: room for the lines of what was under way, and of the stop. */
export const AUDIT_RESERVE_BYTES = MIB;
/** How far back a start looks for the last signature: as many of the longest lines as may stand before one. */
export const MAX_AUDIT_END_BYTES = 16 * MIB;
export const DEFAULT_AUDIT_FILE_BYTES = 64 * MIB;
/** How long a seal waits for its line to be durable: a disk that hangs must not keep the keys. */
export const LAST_LINES_MS = 2_000;

/** Damaged records that a backup may leave out and name: with more of them it is no backup. */
export const MAX_LEFT_OUT = 256;
/** What a restore adds to use counts: more encryptions than a key does between two backups, and a sixteenth of its limit. */
export const RESTORED_USES = 2 ** 28;
/**
 * What an imported key is taken to have been used for. The original did not count; but each of its encryptions left a message of
 * one thread in its store, and a thread of so many would be hundreds of gigabytes.
 */
export const IMPORTED_USES = 2 ** 30;
/** Shares of one recovery key: more people than ever meet for it, and below the 255 that the scheme has points for. */
export const MAX_SHARES = 64;
/** What is read of shares, or of one of them on a terminal. */
export const MAX_SHARES_BYTES = 64 * KIB;
/** Keys of one import: each is held in memory between the two passes, some 300 bytes. */
export const MAX_IMPORT_KEYS = 1_000_000;
/** One file of an import, or one line. */
export const MAX_IMPORT_LINE_BYTES = 16 * KIB;
export const MAX_IMPORT_ANSWER_BYTES = 4 * KIB;
/** How long the original may take for one key. */
export const IMPORT_TIMEOUT_MS = 10_000;
/** Names the backups of a rotation: the version of the KEK it brings, and the first digits of that one's id. */
export const ROTATION_ID_PATTERN = /^r[1-9][0-9]{0,9}-[0-9a-f]{16}$/;
export const SLOT_ID_PATTERN = /^s_[0-9a-f]{32}$/;
/** A client-sealed database, as the store names it. */
export const DATABASE_ID_PATTERN = /^[0-9a-f]{32}$/;
export const SEALED_NAME_PATTERN = /^([0-9a-f]{32})(?:\/([0-9a-f]{32}))?$/;
export const KEY_ID_PATTERN = /^k_[0-9a-z]{1,64}$/;
export const ACTOR_PATTERN = /^[A-Za-z0-9._:@/-]{1,64}$/;
/** The `sub` of a JWT: OpenID Connect Core, section 2, bounds it to 255 ASCII characters. */
export const MAX_SUBJECT_LENGTH = 255;
export const SUBJECT_PATTERN = /^[\x20-\x7e]{1,255}$/;
/** Of a thread store: lmdb-js copies values below 16 MiB, and gives out its own map of the file for larger ones. */
export const MAX_STORED_VALUE_BYTES = 12 * MIB;
/**
 * Values of a thread store in one page of a walk, a listing or a job: it ends with the value that reaches so many, and what is made
 * of a page takes five times its bytes. 4,096 messages of a KiB, the most that a job takes at once, are 6 MiB.
 */
export const MAX_PAGE_BYTES = 8 * MIB;
/** Pages that jobs of one process work on at once, however many jobs there are: two for each of three that go as fast as they can. */
export const MAX_JOB_PAGES = 6;
/** Entries of a page whose reader keeps none of them. */
export const MAX_PAGE_ENTRIES = 500;
/** Sealed values of one message: an envelope takes more than 100 bytes, so more would not fit into a value of the store. */
export const MAX_SEALED_PLACES = Math.floor(MAX_STORED_VALUE_BYTES / 100);
/**
 * The text of a message's body, and of a request that writes one: sealed as a whole, in base64 and with its names, it is a value
 * of the store, whatever it was sealed as before.
 */
export const MAX_MESSAGE_BODY_BYTES = 8 * MIB;
/** Of one that names threads: as many of the longest ids as one may name. */
export const MAX_THREAD_LIST_BODY_BYTES = 512 * KIB;
/** Ended jobs that stay to be looked up: the newest of each thread, and all for a month, in which somebody asks what became of one. */
export const KEPT_JOBS_PER_THREAD = 5;
export const KEPT_JOBS_MS = 30 * 24 * 3_600_000;
/** How often backups are looked for that are over their time, and what else is left to be ended. */
export const BACKUP_SWEEP_MS = 3_600_000;
export const THREAD_ID_PATTERN = /^[A-Za-z0-9._:@/-]{1,256}$/;

/** Of a measurement: below the smallest size the clock is measured, the largest takes a good part of a millisecond. */
export const MIN_BENCH_BYTES = 64;
export const MAX_BENCH_BYTES = MIB;
/** Keys whose messages are in turn: their ids are some 60 MB in each process, their records 4 GB in files. */
export const MAX_BENCH_KEYS = 1_000_000;
/** Requests under way on one connection: well beyond what adds anything. */
export const MAX_BENCH_IN_FLIGHT = 1_024;
/** Connections to the daemon, over HTTP one for each request under way: two clients beside each other leave some to others. */
export const MAX_BENCH_CONNECTIONS = MAX_CONNECTIONS_PER_UID / 2 - 16;
/** More than one process sends. */
export const MAX_BENCH_RATE = 1_000_000;
export const MAX_BENCH_SECONDS = 3_600;
export const MAX_BENCH_REPEATS = 1_000;
/** Values of one list: all combinations are measured. */
export const MAX_BENCH_VALUES = 32;
/** How long the rotation of all keys of a measurement may take: the most keys, on a slow disk. */
export const MAX_BENCH_ROTATION_MS = 3_600_000;
/** Requests due in one block at a fixed rate: of fewer there is no 99th percentile. */
export const MIN_BENCH_REQUESTS = 100;
/** Those of a server that cannot keep up are counted one by one at the end, which takes seconds for so many. */
export const MAX_BENCH_REQUESTS = 50_000_000;

/** How old the last sign of life of a shared store may be: the longest that another daemon goes on with a key that was disabled. */
export const DEFAULT_STALE_AFTER_MS = 1_000;
/** Less is not kept up over a network; more than an hour is no revocation. */
export const MIN_STALE_AFTER_MS = 100;
export const MAX_STALE_AFTER_MS = 3_600_000;
/** Signs of life in that time: three may be late. */
export const BEATS_PER_STALE_AFTER = 4;
/** How soon a lost connection to a database is tried again: less than the shortest time in which everything becomes stale. */
export const DATABASE_RETRY_MS = 100;
/** How often a daemon looks whether its name has become free. */
export const CLAIM_LOOK_MS = 50;
/** How long for: longer than the database's keepalive needs to tell that a machine is gone. */
export const MOST_CLAIM_MS = 15_000;
/** How soon it is noticed that a rotation has nobody to lead it. */
export const LEADERLESS_LOOK_MS = 500;
/** How often, and how many times, who begins a rotation asks for a lead that nobody uses: a look at what was left takes less than a second. */
export const LEAD_LOOK_MS = 50;
export const MOST_LEAD_LOOKS = 20;
/** Connections of one daemon, beside the two that listen and lead: half of them keep a disk busy, and 100 is what a server has. */
export const DEFAULT_DATABASE_CONNECTIONS = 10;
export const MAX_DATABASE_CONNECTIONS = 90;
/** How long a database may take for one statement: all of them touch a few rows. */
export const DEFAULT_STATEMENT_MS = 10_000;
export const MIN_STATEMENT_MS = 100;
/** Where the tables are made, unless told. */
export const DEFAULT_SCHEMA = 'progressdb_kms';
/** A URL with the longest names, and what stands around it in a file. */
export const MAX_URL_FILE_BYTES = 4 * KIB;
/** How old a daemon of the same store may be that is not heard of any more, before it is forgotten. */
export const FORGOTTEN_DAEMON_DAYS = 30;
/** Names a schema; with the prefix of our channel it stays below the 63 bytes of a name in PostgreSQL. */
export const SCHEMA_PATTERN = /^[a-z_][a-z0-9_]{0,47}$/;

/** Throws if two bounds contradict each other; run by the tests. */
export function assertLimits(): void {
  const holds: Array<[boolean, string]> = [
    [READ_HEADROOM_BYTES > INLINE_BYTES, 'the headroom takes an inline message'],
    [RESPONSE_BUFFER_BYTES > INLINE_BYTES + CIPHERTEXT_OVERHEAD + 64, 'a response buffer takes an inline answer'],
    [MAX_PLAINTEXT_BYTES + MAX_AAD_BYTES + KIB < MAX_FRAME_BYTES, 'the largest plaintext fits into a frame'],
    [FIRST_USES >= 2 && MIN_USE_BLOCK <= MAX_USE_BLOCK && SOFT_USES < MAX_USES, 'use blocks grow towards the limit'],
    [((MAX_PLAINTEXT_BYTES + MAX_AAD_BYTES) * 4) / 3 + KIB < MAX_HTTP_BODY_BYTES, 'the largest plaintext fits into a body'],
    [MAX_HTTP_BODY_BYTES + MAX_BATCH_ITEMS * 64 < MAX_HTTP_ANSWER_BYTES, 'a client reads the answer to the largest batch'],
    [MAX_HELD_BYTES >= 2 * MAX_COLD_BYTES, 'one connection cannot hold all that connections may hold'],
    [MAX_HELD_BYTES_PER_IDENTITY >= 2 * MAX_COLD_BYTES, 'one connection cannot hold all that its identity may hold'],
    [(MAX_MESSAGE_BODY_BYTES * 4) / 3 + MIB < MAX_STORED_VALUE_BYTES, 'the longest message fits into the store'],
    [MAX_FRAME_BYTES < 2 ** 24, 'the first byte of a frame is zero'],
    [MAX_TOKENS * TOKEN_ENTRY_BYTES < MAX_TOKEN_FILE_BYTES, 'as many tokens as there may be fit into their file'],
    [MAX_JWT_BYTES + 64 < ANONYMOUS_FRAME_BYTES, 'the longest JWT fits into the hello of somebody unknown'],
    [((MAX_JWT_BYTES + 64) * 4) / 3 + KIB < MAX_HTTP_HEADER_BYTES, 'the longest JWT fits into a header, as Basic too'],
    [MAX_JWTS_AWAITING_KEYS < MAX_JWTS_IN_FLIGHT, 'tokens that wait for keys leave room for the others'],
    [JWKS_COOLDOWN_MS < JWKS_REFRESH_MS && JWKS_REFRESH_MS < JWKS_STALE_MS, 'keys are fetched again before they are stale'],
    [
      FORWARD_BATCH_BYTES < FORWARD_QUEUE_BYTES && MAX_AUDIT_LINE_BYTES < FORWARD_BATCH_BYTES,
      'a batch holds a line, the queue a batch',
    ],
    [CHECKPOINT_LINES * MAX_AUDIT_LINE_BYTES + AUDIT_DRAIN_BYTES < MAX_AUDIT_END_BYTES, 'a start finds the last checkpoint'],
    [RESTORED_USES * 8 <= MAX_USES && IMPORTED_USES < SOFT_USES, 'a restored or imported key has uses left'],
    [2 * MAX_BENCH_CONNECTIONS < MAX_CONNECTIONS_PER_UID, 'what measures leaves connections to others'],
    [MAX_BENCH_BYTES <= MAX_PLAINTEXT_BYTES, 'what is measured is a message'],
    [MAX_CONNECTIONS_PER_UID <= MAX_CONNECTIONS, 'one uid may hold no more than all connections'],
  ];
  for (const [ok, text] of holds) if (!ok) throw new Error(`limits.ts: does not hold: ${text}`);
}
