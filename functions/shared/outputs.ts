/** The queue of batches, as an output of the functions that name batches to it. */
import { output } from '@azure/functions';
import { appNames, CONNECTION } from './application.ts';

export const batchQueue = output.storageQueue({ queueName: appNames.batchQueue, connection: CONNECTION });
