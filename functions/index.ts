/** The function app: importing this module registers every function. */
import './shared/telemetry.ts';
import './archive-batch.ts';
import './archive-batch-poison.ts';
import './check-snapshots.ts';
import './create-repository.ts';
import './publish-snapshot.ts';
import './record-upload.ts';
import './repair-chunk-index.ts';
import './request-publish.ts';
import './seal-batches.ts';
import './start-publishes.ts';
