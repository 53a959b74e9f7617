/** Of a line that is longer the rest is dropped: a daemon that goes wrong must not fill its parent's memory. */
const MAX_LINE = 16_384;

/** Text that comes in pieces, as its lines. */
export class Lines {
  private begun = '';

  constructor(private readonly take: (line: string) => void) {}

  readonly push = (text: string): void => {
    const [first = '', ...more] = text.split('\n');
    this.append(first);
    for (const next of more) {
      this.end();
      this.append(next);
    }
  };

  /** What has no end of its own is a line, too. */
  readonly end = (): void => {
    if (this.begun !== '') this.take(this.begun);
    this.begun = '';
  };

  private append(text: string): void {
    this.begun += text.slice(0, MAX_LINE - this.begun.length);
  }
}
