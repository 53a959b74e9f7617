/** What `npm run bench` measures, as it writes it to bench/build/results.json: the report and the plots are made from this alone. */
export interface Results {
  /** ISO time of the start. */
  at: string;
  /** Too short to judge by. */
  quick: boolean;
  /** Servers on one core, what drives them on the other. */
  pinned: boolean;
  machine: { cpu: string; cores: number; memoryGiB: number; os: string };
  /** `node`, `openssl`, `product`, and each peer by its package's name. */
  versions: Record<string, string>;
  embedded?: Embedded;
  keys?: Keys;
  daemon?: Daemon;
  /** Daemons with one serving thread and with two, on all cores. */
  workers?: { turns: number; shapes: Array<{ shape: string; one?: ServerRate; two?: ServerRate; twoOverOne?: Ratio }> };
  latency?: Latency;
  client?: Client;
  audit?: { turns: number; inFlight: string; modes: Array<{ name: string; ofOff: Ratio } & ServerRate> };
  rotation?: { keys: number; createdPerSecond: number; rotatedPerSecond: number };
  threads?: Threads;
  nodes?: NodeVersion[];
  /** Of a run of its own, `npm run bench:scale`: bench/build/scale.json. */
  scale?: Scale;
  bars: Bar[];
}

/** Messages of a thread that are moved to a new key. */
export interface Threads {
  bodyBytes: number;
  messages: number;
  ways: Array<{
    way: 'embedded' | 'daemon';
    backups: 'with' | 'without';
    firstPerSecond: number;
    perSecond: number;
    /** Anonymous and locked. */
    peakBytes: number;
  }>;
  /** Embedded, with backups. */
  long: { messages: number; perSecond: number; peakBytes: number };
}

/** Median and quartiles over the turns; each turn's ratio is taken between neighbouring blocks. */
export interface Ratio {
  ratio: number;
  low: number;
  high: number;
}

export interface Embedded {
  aadBytes: number;
  sizes: EmbeddedSize[];
}

export interface EmbeddedSize {
  /** Bytes of the message. */
  size: number;
  turns: number;
  /** Nanoseconds of the C++ loop, sealing; opening is measured against a floor of its own. */
  floorNs: number;
  openFloorNs: number;
  /** By name: `encryptInto`, `decryptSync`, `node:crypto`, `node:crypto decrypt`, … */
  variants: Record<string, Variant>;
}

export interface Variant {
  operation: 'encrypt' | 'decrypt';
  algorithm: string;
  /** Whether it is a promise: what its threads do would look free by the CPU time of one. */
  byClock: boolean;
  /** Nanoseconds per message: by the clock, or of the thread's CPU time. */
  ns: number;
  /** CPU time per message of all the process's threads, the pool's and the collector's with it. */
  cpuNs: number;
  overFloor: Ratio;
  cpuOverFloor: Ratio;
  /** node:crypto in the same direction over this one. */
  fasterThanNodeCrypto: Ratio;
}

/** What it costs that messages go to many keys, each message to a random one of them: `encryptInto` and `decryptInto`. */
export interface Keys {
  size: number;
  counts: KeyCount[];
}

export interface KeyCount {
  keys: number;
  /** How many of them have room in the arena; less than all where RLIMIT_MEMLOCK does not let more be locked. */
  cachedKeys: number;
  /** What the process has grown by: the vault, the records of the memory store, and a resolved key for each. */
  residentBytes: number;
  /** With a resolved key. */
  encryptNs: number;
  decryptNs: number;
  /** With the key's id. */
  encryptByIdNs: number;
  decryptByIdNs: number;
  /** Of the resolved key's. */
  encryptOverFloor: Ratio;
  decryptOverFloor: Ratio;
}

export interface ServerRate {
  perSecond: number;
  /** Of the server's CPU, for each operation. */
  serverCpuNs: number;
  /** Of one core, by the server and by what drove it. */
  serverBusy?: number;
  generatorBusy?: number;
  /** The generator had no time left, and less than the server: this is its rate, and the server's is higher. */
  generatorLimited?: boolean;
}

export interface Daemon {
  plaintextBytes: number;
  aadBytes: number;
  turns: number;
  /** Connections x in flight that suited the HTTP servers best. */
  httpShape: string;
  fastifyShape: string;
  shapes: DaemonShape[];
  /** One connection, 256 in flight or as many as 4 MiB hold, by the message's size. */
  sizes: Array<{ size: number; inFlight: number; encrypt: ServerRate; decrypt: ServerRate; echo: ServerRate }>;
  httpSurface: { shape: string; daemon?: ServerRate; http?: ServerRate; fastify?: ServerRate; daemonOverHttp?: Ratio; daemonOverFastify?: Ratio };
  /** Durable creates in the files store, through the daemon. */
  creates: Array<{ inFlight: number; perSecond: number }>;
}

export interface DaemonShape {
  /** "connections x in flight on each" */
  shape: string;
  connections: number;
  /** On each connection. */
  inFlight: number;
  daemon?: ServerRate;
  decrypt?: ServerRate;
  echo?: ServerRate;
  /** With as many in flight, but spread as `httpShape` and `fastifyShape` spread 256; at one connection only. */
  http?: ServerRate;
  fastify?: ServerRate;
  daemonOverEcho?: Ratio;
  daemonOverHttp?: Ratio;
  daemonOverFastify?: Ratio;
  decryptOverEncrypt?: Ratio;
  httpCpuOverDaemon?: Ratio;
}

/** Microseconds from the instant a request was due, whether or not it could be sent then, to its answer. */
export interface Percentiles {
  samples: number;
  p50: number;
  p90: number;
  p99: number;
  p999: number;
  max: number;
}

export interface Latency {
  plaintextBytes: number;
  /** Open loop: requests are due at a fixed rate, whatever the answers do. */
  open: Array<OpenLoop & Percentiles>;
  /** One request at a time, client and server pinned to one core. */
  oneCore: Array<{ server: 'daemon' | 'daemon, node client' | 'echo'; perSecond: number } & Percentiles>;
  /** One request at a time across two cores, with and without the spin. */
  twoCores: Array<{ server: 'daemon' | 'daemon, node client' | 'daemon, spin' | 'echo'; perSecond: number } & Percentiles>;
}

export interface OpenLoop {
  server: 'daemon' | 'echo' | 'node:http' | 'fastify';
  connections: number;
  /** Wanted, and answered. */
  perSecond: number;
  achieved: number;
  /** The server fell behind: its queue grew as long as it was asked, so the percentiles tell how long that was. */
  saturated: boolean;
  serverBusy: number;
  /** Of the time, the part in which the generator had something to do; it does not sleep. */
  generatorBusy: number;
  /** How long after a request was due the generator saw it, in the mean: so much of a latency is not the server's. */
  generatorLateUs: number;
  generatorLimited: boolean;
}

export interface Client {
  inFlight: number;
  turns: number;
  kms?: { perSecond: number; clientCpuNs: number };
  http?: { perSecond: number; clientCpuNs: number };
  kmsOverHttp?: Ratio;
}

/** The same product on another node, the versions in turn. */
export interface NodeVersion {
  node: string;
  openssl: string;
  embedded: Array<{ size: number; floorNs: number; encryptInto: Ratio; encryptSync: Ratio; nodeCrypto: Ratio; encryptIntoNs: number }>;
  at256: ServerRate;
  at8x64: ServerRate;
}

/** What many keys cost, each store with so many of them in turn. */
export interface Scale extends Pick<Results, 'at' | 'quick' | 'pinned' | 'machine' | 'versions'> {
  /** Of the daemon's cache, and under how many keys clients encrypt. */
  cachedKeys: number;
  hotKeys: number;
  /** Of a packed record. */
  recordBytes: number;
  /** Durable creates under way; connections x in flight of the decryptions; requests a second during a rotation. */
  inFlight: number;
  shape: string;
  servedRate: number;
  places: ScalePlace[];
}

/** Bytes of a process by /proc/PID/status, and how many keys it had unwrapped. */
export interface Memory {
  anonymous: number;
  locked: number;
  files: number;
  cachedKeys: number;
}

export interface Disk {
  store: { apparent: number; allocated: number };
  audit: { apparent: number; allocated: number };
}

/** Seconds: of the open, to the first decryption, the same from the start of the process, and of the close. */
export interface ColdStart {
  open: number;
  toDecrypt: number;
  fromSpawn: number;
  close: number;
}

export interface ScalePlace {
  store: 'lmdb' | 'files';
  keys: number;
  /** `cpuNs` here and below: of all threads, for each. The floor is lmdb-js alone. */
  created: {
    perSecond: number;
    cpuNs: number;
    floorPerSecond: number;
    overFloor: Ratio;
    memoryAtOpen: Memory;
    memory: Memory;
    closeSeconds: number;
  };
  /** When all keys were made. */
  disk: Disk;
  /** `cold`: nothing of the files was in the page cache. */
  coldStart: { warm: ColdStart; cold: ColdStart; daemonSeconds: number };
  /** In one process; `memory` with as many keys cached as have room. */
  decrypts: {
    memoryAtOpen: Memory;
    memory: Memory;
    warmNs: number;
    coldNs: number;
    firstEncrypts: { perSecond: number; cpuNs: number };
  };
  /** Through the daemon; `missNs` of those that bring their key, where not all have room. */
  served: {
    all: ServerRate & { failures: number };
    cached: ServerRate & { failures: number };
    cpuOverCached: Ratio;
    missNs?: number;
    auditBytesPerDecrypt: number;
    peakBytes: number;
    stopSeconds: number;
  };
  /** `disk` after the one alone. */
  rotation: {
    alone: { keys: number; seconds: number; perSecond: number; cpuNs: number };
    serving: {
      keys: number;
      seconds: number;
      perSecond: number;
      served: { answers: number; failures: number; perSecond: number; seconds: number };
      peakBytes: number;
    };
    disk: Disk;
    stopSeconds: number;
  };
}

export interface Bar {
  /** Of the run that measures it: `--only` takes it. */
  part: string;
  what: string;
  most?: number;
  least?: number;
  unit: string;
  wished?: boolean;
  measured?: Ratio | { ratio: number };
  met?: boolean;
}
