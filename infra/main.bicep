// Firn in a subscription: everything but the code and the subscription to events, which needs the code (events.bicep).
// docs/deploy.md goes through it. Two resource groups: the archive with its passphrase, and the functions. The second can
// be removed and deployed again at any time. Needs Bicep 0.38 or newer.
targetScope = 'subscription'

@description('Name of this installation; part of the names of its resource groups.')
@minLength(1)
@maxLength(32)
param environmentName string

@description('Region of everything. Flex Consumption has to be offered there.')
@metadata({ azd: { type: 'location' } })
param location string

@description('True when the resource group of the archive was made beforehand, as the preprovision hook of azd does, so that `azd down` does not take it for its own.')
param archiveGroupExists bool = false

@description('Name of the repository: base of the names of its containers and queues.')
@minLength(1)
@maxLength(48)
param repository string = 'firn'

@description('Taken as the passphrase of the repository only when the vault has none. Made up where it is not given.')
@secure()
param passphrase string = replace('${newGuid()}${newGuid()}', '-', '')

@description('Object id of the person or group who uploads, restores and reads the passphrase; empty for nobody.')
param operatorPrincipalId string = ''

@description('What the operator is.')
@allowed(['User', 'Group', 'ServicePrincipal'])
param operatorPrincipalType string = 'User'

@description('How many copies of the archive are kept, and where. The Archive tier is not offered with ZRS.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS', 'Standard_RAGRS', 'Standard_RAGZRS'])
param redundancy string = 'Standard_ZRS'

@description('What protects the data container beyond soft delete: old versions that are kept, or a time for which nothing can be changed or deleted.')
@allowed(['none', 'versioning', 'immutable'])
param dataProtection string = 'none'

@description('With immutable: days for which a blob can be neither changed nor deleted.')
@minValue(1)
@maxValue(146000)
param immutabilityDays int = 30

@description('Days for which deleted or overwritten blobs can be brought back. They are paid for meanwhile.')
@minValue(1)
@maxValue(365)
param softDeleteDays int = 7

@description('Days after which copies that were brought back from the Archive tier are deleted.')
@minValue(1)
@maxValue(365)
param rehydratedDays int = 7

@description('True puts locks on the archive and the passphrase, so that they are not deleted by mistake.')
param deleteLock bool = true

@description('Access tier of new chunk blobs.')
@allowed(['Hot', 'Cool', 'Cold', 'Archive'])
param chunkTier string = 'Hot'

@description('What happens to an upload that is archived.')
@allowed(['keep', 'consume'])
param inbox string = 'keep'

@description('Days without a new snapshot of a source after which there is an alert; 0 for none.')
@minValue(0)
@maxValue(3650)
param snapshotAgeDaysMax int = 7

@description('More settings of Firn, by the names that docs/operations.md gives them.')
param settings object = {}

@description('Version of Node.js.')
@allowed(['22', '24'])
param nodeVersion string = '22'

@description('Memory of an instance in MB.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

@description('Instances at most, of all functions together.')
@minValue(40)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('Instances that always run for the orchestrations: publishes start at once, and are paid for around the clock.')
@minValue(0)
@maxValue(10)
param durableAlwaysReady int = 0

@description('True puts storage and vault behind private endpoints in a virtual network of their own. The command line then works only from there.')
param privateNetwork bool = false

@description('True makes a Key Vault key that may wrap the master key one day; nothing uses it yet.')
param wrappingKey bool = false

@description('Who gets a mail at an alert; empty for nobody.')
param alertEmail string = ''

@description('Days for which logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

var token = uniqueString(subscription().id, environmentName, location)
var tags = { 'azd-env-name': environmentName }
var archiveGroupName = 'rg-${environmentName}-archive'

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

resource archiveGroup 'Microsoft.Resources/resourceGroups@2024-03-01' = if (!archiveGroupExists) {
  name: archiveGroupName
  location: location
}

module functionsIdentity 'modules/identity.bicep' = {
  scope: group
  params: {
    name: 'id-firn-functions-${token}'
    location: location
    tags: tags
  }
}

module eventsIdentity 'modules/identity.bicep' = {
  scope: group
  params: {
    name: 'id-firn-events-${token}'
    location: location
    tags: tags
  }
}

module archive 'modules/archive.bicep' = {
  scope: resourceGroup(archiveGroupName)
  params: {
    name: 'stfirn${token}'
    location: location
    tags: tags
    repository: repository
    redundancy: redundancy
    dataProtection: dataProtection
    immutabilityDays: immutabilityDays
    softDeleteDays: softDeleteDays
    rehydratedDays: rehydratedDays
    privateNetwork: privateNetwork
    deleteLock: deleteLock
    functionsPrincipalId: functionsIdentity.outputs.principalId
    eventsPrincipalId: eventsIdentity.outputs.principalId
    operatorPrincipalId: operatorPrincipalId
    operatorPrincipalType: operatorPrincipalType
  }
  dependsOn: [archiveGroup]
}

module vault 'modules/vault.bicep' = {
  scope: resourceGroup(archiveGroupName)
  params: {
    name: 'kv-firn-${token}'
    location: location
    tags: tags
    passphrase: passphrase
    wrappingKey: wrappingKey
    privateNetwork: privateNetwork
    deleteLock: deleteLock
    functionsPrincipalId: functionsIdentity.outputs.principalId
    operatorPrincipalId: operatorPrincipalId
    operatorPrincipalType: operatorPrincipalType
  }
  dependsOn: [archiveGroup]
}

module hostStorage 'modules/host-storage.bicep' = {
  scope: group
  params: {
    name: 'stfunc${token}'
    location: location
    tags: tags
    privateNetwork: privateNetwork
    functionsPrincipalId: functionsIdentity.outputs.principalId
  }
}

module network 'modules/network.bicep' = if (privateNetwork) {
  scope: group
  params: {
    token: token
    location: location
    tags: tags
  }
}

module privateEndpoints 'modules/private-endpoints.bicep' = if (privateNetwork) {
  scope: group
  params: {
    location: location
    tags: tags
    networkId: network!.outputs.id
    subnetId: network!.outputs.endpointsSubnetId
    archiveStorageId: archive.outputs.id
    hostStorageId: hostStorage.outputs.id
    vaultId: vault.outputs.id
  }
}

module monitoring 'modules/monitoring.bicep' = {
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    retentionDays: logRetentionDays
    functionsPrincipalId: functionsIdentity.outputs.principalId
  }
}

module eventTopic 'modules/event-topic.bicep' = {
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    archiveStorageId: archive.outputs.id
    identityId: eventsIdentity.outputs.id
  }
}

module workbook 'modules/workbook.bicep' = {
  scope: group
  params: {
    location: location
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
  }
}

module alerts 'modules/alerts.bicep' = {
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
    eventTopicId: eventTopic.outputs.id
    email: alertEmail
  }
}

module functions 'modules/functions.bicep' = {
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    nodeVersion: nodeVersion
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    durableAlwaysReady: durableAlwaysReady
    subnetId: privateNetwork ? network!.outputs.functionsSubnetId : ''
    identityId: functionsIdentity.outputs.id
    identityClientId: functionsIdentity.outputs.clientId
    hostStorageName: hostStorage.outputs.name
    packageUri: hostStorage.outputs.packageUri
    archiveBlobEndpoint: archive.outputs.blobEndpoint
    archiveQueueEndpoint: archive.outputs.queueEndpoint
    passphraseSecretUri: vault.outputs.passphraseSecretUri
    applicationInsightsConnection: monitoring.outputs.connectionString
    firnSettings: union(settings, {
      FIRN_REPOSITORY: repository
      FIRN_CHUNK_TIER: chunkTier
      FIRN_INBOX: inbox
      FIRN_SNAPSHOT_AGE_DAYS_MAX: string(snapshotAgeDaysMax)
    })
  }
  // What the app reaches at its start has to be reachable.
  dependsOn: [privateEndpoints]
}

// Where the hooks and the command line find what was deployed. No secret among them.

@description('Resource group of the functions.')
output AZURE_RESOURCE_GROUP string = group.name

@description('Resource group of the archive and its passphrase.')
output ARCHIVE_RESOURCE_GROUP string = archiveGroupName

@description('Name of the function app.')
output FUNCTION_APP_NAME string = functions.outputs.name

@description('Address of the function app.')
output FUNCTION_APP_URL string = functions.outputs.url

@description('Name of the event topic.')
output EVENT_TOPIC_NAME string = eventTopic.outputs.name

@description('Identity of the event topic.')
output EVENTS_IDENTITY_ID string = eventsIdentity.outputs.id

@description('Storage account of the archive.')
output ARCHIVE_STORAGE_ID string = archive.outputs.id

@description('The container whose uploads are announced.')
output INBOX_CONTAINER string = archive.outputs.inboxContainer

@description('Where events go that could not be delivered.')
output DEAD_LETTER_CONTAINER string = archive.outputs.deadLetterContainer

@description('The vault that holds the passphrase.')
output KEY_VAULT_NAME string = vault.outputs.name

@description('What the command line needs to find the archive.')
output FIRN_STORAGE__blobServiceUri string = archive.outputs.blobEndpoint

@description('What the command line needs to find the archive.')
output FIRN_REPOSITORY string = repository
