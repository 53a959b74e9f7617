import { Registry } from 'prom-client';
import type { Service } from '../operations.js';
import { eventLoopSeries, processSeries } from './process.js';
import { requestSeries } from './requests.js';
import { register } from './series.js';
import { stateSeries, type Watched } from './state.js';

/** All figures as Prometheus reads them. Loaded by the first scrape: nobody else needs prom-client. */
export class Metrics {
  private readonly registry = new Registry();
  private readonly eventLoop = eventLoopSeries();
  private scrape: Promise<string> | undefined;

  constructor(service: Service, watched: Watched) {
    const all = [...stateSeries(service, watched), ...requestSeries(service.watch.counters), this.eventLoop.series];
    for (const series of [...all, ...processSeries()]) register(this.registry, series);
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  /** Who asks at the same time gets the same text. */
  text(): Promise<string> {
    this.scrape ??= this.registry.metrics().finally(() => {
      this.scrape = undefined;
    });
    return this.scrape;
  }

  close(): void {
    this.eventLoop.stop();
  }
}
