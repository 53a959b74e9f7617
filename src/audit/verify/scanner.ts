import { isUtf8 } from 'node:buffer';
import { ACTOR_PATTERN, KEY_ID_PATTERN, MAX_AUDIT_LINE_BYTES, THREAD_ID_PATTERN } from '../../limits.js';
import type { AuditType } from '../audit-log.js';
import { base64Length, isBase64 } from './base64.js';

const bytesOf = (text: string) => new Uint8Array(Buffer.from(text, 'latin1'));

const SEQ = bytesOf('{"event":{"seq":');
const TIME = bytesOf(',"time":"');
const BOOT = bytesOf('","boot":"');
const PREV = bytesOf('","prev":"');
const TYPE = bytesOf('","type":"');
const ACTOR = bytesOf('","actor":"');
const SIG = bytesOf('},"sig":"');
const ED25519 = bytesOf(',"ed25519":"');

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const CLOSING = 0x7d;
const ZERO = 0x30;
const NINE = 0x39;
const TIME_FORM = bytesOf('0000-00-00T00:00:00.000Z');
const EVENT_AT = '{"event":'.length;

/** Which lines have an outcome and a generation, and which are signed. */
interface Form {
  outcome: boolean;
  generation: boolean;
  signed: boolean;
}

const USUAL: Form = { outcome: true, generation: true, signed: false };
const OF_DATA: Form = { ...USUAL, generation: false };
const FORMS: Readonly<Record<AuditType, Form>> = {
  start: USUAL,
  stop: USUAL,
  create_dek: USUAL,
  encrypt: OF_DATA,
  decrypt: OF_DATA,
  get_wrapped: OF_DATA,
  rewrap: USUAL,
  rotate_kek: USUAL,
  key_state: USUAL,
  slot: USUAL,
  token: USUAL,
  database: USUAL,
  import: USUAL,
  backup: USUAL,
  restore: USUAL,
  seal: USUAL,
  unseal: USUAL,
  denied: OF_DATA,
  checkpoint: { outcome: false, generation: true, signed: true },
  signing_key: { outcome: false, generation: true, signed: true },
  recovered: { outcome: false, generation: true, signed: false },
};
const FORM_OF = new Map(Object.entries(FORMS));

/** The members behind the six, in the order in which they stand; what is special to the type comes after them. */
const RANKS = new Map([
  ['key_id', 1],
  ['thread_id', 2],
  ['outcome', 3],
  ['generation', 4],
]);
const OWN_RANK = 5;
const TAKEN = new Set([...RANKS.keys(), 'seq', 'time', 'boot', 'prev', 'type', 'actor']);
const OUTCOME = /^(ok|[A-Z][A-Z_]{0,63})$/;
const NAME = /^[a-z][a-z0-9_]{0,63}$/;
const NUMBER = /^-?[0-9][0-9.e+-]*/;
const LITERALS = ['true', 'false', 'null'].map(bytesOf);

/**
 * Reads one line at a time, strictly: each line has one form, so that what is read here would be written with the same bytes. Its
 * members say what the last line says; they are places in the bytes where nobody may want the text. One object is used for all
 * lines: this runs some hundred thousand times a second.
 */
export class LineScanner {
  seq = 0;
  time = '';
  boot = '';
  prev = '';
  type: AuditType = 'start';
  /** −1 where the line has none. */
  generation = -1;
  isSigned = false;
  eventAt = 0;
  eventEnd = 0;
  sigAt = 0;
  ed25519At = 0;
  #bytes: Buffer = Buffer.alloc(0);
  #at = 0;
  #end = 0;

  /** What is wrong with the line between `from` and `end`, which is without its line feed; undefined if nothing is. */
  scan(bytes: Buffer, from: number, end: number): string | undefined {
    if (end - from >= MAX_AUDIT_LINE_BYTES) return `it is longer than ${MAX_AUDIT_LINE_BYTES} bytes`;
    this.#bytes = bytes;
    this.#at = from;
    this.#end = end;
    this.generation = -1;
    this.eventAt = from + EVENT_AT;
    return this.#scanHead() ?? this.#scanMembers() ?? this.#scanSignatures();
  }

  /** The event of the last line, its members as JSON has them. */
  event(): Record<string, string | number | boolean | null> {
    return JSON.parse(this.#bytes.toString('utf8', this.eventAt, this.eventEnd));
  }

  sig(): Buffer {
    return Buffer.from(this.#bytes.toString('latin1', this.sigAt, this.sigAt + base64Length(32)), 'base64');
  }

  ed25519(): Buffer {
    return Buffer.from(this.#bytes.toString('latin1', this.ed25519At, this.ed25519At + base64Length(64)), 'base64');
  }

  #scanHead(): string | undefined {
    if (!this.#skip(SEQ)) return 'it does not begin as lines do';
    this.seq = this.#integer();
    if (this.seq < 1) return '`seq` is no number';
    if (!this.#skip(TIME) || !this.#isTime()) return '`time` is no time';
    this.time = this.#take(TIME_FORM.length);
    if (!this.#skip(BOOT) || !this.#isHex(16)) return '`boot` is not 16 hex digits';
    this.boot = this.#take(16);
    if (!this.#skip(PREV) || !this.#isHex(64)) return '`prev` is not 64 hex digits';
    this.prev = this.#take(64);
    if (!this.#skip(TYPE)) return '`type` is missing';
    const type = this.#plainText();
    if (!FORM_OF.has(type)) return '`type` is unknown';
    this.type = type as AuditType;
    if (!this.#skip(ACTOR) || !ACTOR_PATTERN.test(this.#plainText())) return '`actor` is no actor';
    return this.#bytes[this.#at++] === QUOTE ? undefined : '`actor` is no actor';
  }

  #scanMembers(): string | undefined {
    const form = FORM_OF.get(this.type) as Form;
    const own: string[] = [];
    let rank = 0;
    let hasOutcome = false;
    while (this.#bytes[this.#at] === COMMA) {
      this.#at += 2;
      const name = this.#bytes[this.#at - 1] === QUOTE ? this.#plainText() : '';
      if (this.#bytes[this.#at] !== QUOTE || this.#bytes[this.#at + 1] !== COLON) return 'a member has no name';
      this.#at += 2;
      const at = RANKS.get(name) ?? OWN_RANK;
      if (at < rank || (at === rank && at !== OWN_RANK)) return `\`${name}\` is not in its place`;
      rank = at;
      if (at === OWN_RANK) {
        if (!NAME.test(name) || TAKEN.has(name) || own.includes(name)) return `a member has the name \`${printable(name)}\``;
        own.push(name);
        if (!this.#skipValue()) return `\`${name}\` has no value in the form that is written`;
      } else if (!this.#isMember(name)) return `\`${name}\` breaks its rule`;
      hasOutcome ||= name === 'outcome';
    }
    if (this.#bytes[this.#at] !== CLOSING || this.#at >= this.#end) return 'the event does not end as events do';
    this.eventEnd = this.#at + 1;
    if (hasOutcome !== form.outcome) return hasOutcome ? 'it may have no `outcome`' : '`outcome` is missing';
    if (this.generation >= 0 === form.generation) return undefined;
    return form.generation ? '`generation` is missing' : 'it may have no `generation`';
  }

  #isMember(name: string): boolean {
    if (name === 'generation') {
      this.generation = this.#integer();
      return this.generation > 0;
    }
    if (this.#bytes[this.#at++] !== QUOTE) return false;
    const text = this.#plainText();
    if (this.#bytes[this.#at++] !== QUOTE) return false;
    if (name === 'key_id') return KEY_ID_PATTERN.test(text);
    return name === 'outcome' ? OUTCOME.test(text) : text === '' || THREAD_ID_PATTERN.test(text);
  }

  #scanSignatures(): string | undefined {
    const { signed } = FORM_OF.get(this.type) as Form;
    this.isSigned = signed;
    if (!this.#skip(SIG) || !this.#isBase64(32)) return '`sig` is no base64 of 32 bytes';
    this.sigAt = this.#at - base64Length(32);
    if (this.#bytes[this.#at++] !== QUOTE) return '`sig` is no base64 of 32 bytes';
    if (signed) {
      if (!this.#skip(ED25519) || !this.#isBase64(64)) return '`ed25519` is no base64 of 64 bytes';
      this.ed25519At = this.#at - base64Length(64);
      if (this.#bytes[this.#at++] !== QUOTE) return '`ed25519` is no base64 of 64 bytes';
    }
    return this.#bytes[this.#at] === CLOSING && this.#at + 1 === this.#end ? undefined : 'it does not end as lines do';
  }

  #skip(text: Uint8Array): boolean {
    const bytes = this.#bytes;
    const at = this.#at;
    if (at + text.length > this.#end) return false;
    for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text[i]) return false;
    this.#at = at + text.length;
    return true;
  }

  #take(length: number): string {
    const at = this.#at;
    this.#at = at + length;
    return this.#bytes.toString('latin1', at, at + length);
  }

  /** Up to a quotation mark: visible ASCII without a backslash. */
  #plainText(): string {
    const bytes = this.#bytes;
    const from = this.#at;
    let at = from;
    while (at < this.#end) {
      const byte = bytes[at] as number;
      if (byte === QUOTE || byte < 0x20 || byte > 0x7e || byte === BACKSLASH) break;
      at++;
    }
    this.#at = at;
    return bytes.toString('latin1', from, at);
  }

  /** −1 if there is none that a double holds exactly, or one that is written in another way. */
  #integer(): number {
    const bytes = this.#bytes;
    const from = this.#at;
    let at = from;
    let value = 0;
    for (; at < this.#end; at++) {
      const digit = (bytes[at] as number) - ZERO;
      if (digit < 0 || digit > 9) break;
      value = 10 * value + digit;
    }
    this.#at = at;
    const isOne = at > from && (bytes[from] !== ZERO || at === from + 1) && at - from <= 16;
    return isOne && Number.isSafeInteger(value) ? value : -1;
  }

  #isHex(length: number): boolean {
    const end = this.#at + length;
    if (end > this.#end) return false;
    for (let at = this.#at; at < end; at++) {
      const byte = this.#bytes[at] as number;
      if (!((byte >= ZERO && byte <= NINE) || (byte >= 0x61 && byte <= 0x66))) return false;
    }
    return true;
  }

  #isTime(): boolean {
    const at = this.#at;
    if (at + TIME_FORM.length > this.#end) return false;
    for (let i = 0; i < TIME_FORM.length; i++) {
      const byte = this.#bytes[at + i] as number;
      if (TIME_FORM[i] === ZERO ? byte < ZERO || byte > NINE : byte !== TIME_FORM[i]) return false;
    }
    const month = this.#digits(at + 5);
    const day = this.#digits(at + 8);
    if (month < 1 || month > 12 || day < 1 || !this.#isDaytime(at)) return false;
    return day <= 28 || day <= daysOf(100 * this.#digits(at) + this.#digits(at + 2), month);
  }

  #isDaytime(at: number): boolean {
    return this.#digits(at + 11) <= 23 && this.#digits(at + 14) <= 59 && this.#digits(at + 17) <= 59;
  }

  /** Two of them. */
  #digits(at: number): number {
    return 10 * ((this.#bytes[at] as number) - ZERO) + (this.#bytes[at + 1] as number) - ZERO;
  }

  #isBase64(bytes: number): boolean {
    const end = this.#at + base64Length(bytes);
    if (end > this.#end || !isBase64(this.#bytes, this.#at, bytes)) return false;
    this.#at = end;
    return true;
  }

  #skipValue(): boolean {
    if (this.#bytes[this.#at] === QUOTE) return this.#skipString();
    if (LITERALS.some((literal) => this.#skip(literal))) return true;
    const from = this.#at;
    if (this.#integer() >= 0 && (this.#bytes[this.#at] === COMMA || this.#bytes[this.#at] === CLOSING)) return true;
    const [text] = NUMBER.exec(this.#bytes.toString('latin1', from, Math.min(this.#end, from + 32))) ?? [''];
    this.#at = from + text.length;
    // As JSON.stringify writes it, and in no other way.
    return text !== '' && Number.isFinite(Number(text)) && String(Number(text)) === text;
  }

  /** Escaped is what JSON.stringify escapes, and as it does; all else stands as it is, in UTF-8. */
  #skipString(): boolean {
    const bytes = this.#bytes;
    const from = this.#at++;
    let isAscii = true;
    let isEscaped = false;
    for (; this.#at < this.#end; this.#at++) {
      const byte = bytes[this.#at] as number;
      if (byte < 0x20) return false;
      if (byte >= 0x80) isAscii = false;
      if (byte === BACKSLASH) {
        isEscaped = true;
        this.#at++;
      } else if (byte === QUOTE) {
        const text = bytes.subarray(from, ++this.#at);
        return (isAscii || isUtf8(text)) && (!isEscaped || isAsWritten(text.toString('utf8')));
      }
    }
    return false;
  }
}

function daysOf(year: number, month: number): number {
  const isLeap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  if (month === 2) return isLeap ? 29 : 28;
  return [4, 6, 9, 11].includes(month) ? 30 : 31;
}

function isAsWritten(text: string): boolean {
  try {
    return JSON.stringify(JSON.parse(text)) === text;
  } catch {
    return false;
  }
}

function printable(name: string): string {
  return name.replace(/[^ -~]/g, '?').slice(0, 64);
}
