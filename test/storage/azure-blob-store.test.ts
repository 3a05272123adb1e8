import { connectStorage } from '../../src/storage/connect.ts';
import { azuriteConnectionString, uniqueName } from '../kit/azurite.ts';
import { blobStoreConformance } from './blob-store-conformance.ts';

blobStoreConformance('Azurite', {
  async open(options) {
    const store = connectStorage({ connectionString: azuriteConnectionString() }).container(uniqueName());
    if (options?.container ?? true) await store.createContainer();
    return store;
  },
  runs: 60,
});
