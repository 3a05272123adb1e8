// The storage account of the archive: containers, queues, what protects them, and who may use them. Nothing here is
// removed with the functions.

@description('Name of the storage account.')
param name string

@description('Region.')
param location string

@description('Tags of all resources.')
param tags object

@description('Name of the repository: base of the names of its containers and queues.')
param repository string

@description('How many copies are kept, and where.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS', 'Standard_RAGRS', 'Standard_RAGZRS'])
param redundancy string

@description('What protects the data container beyond soft delete.')
@allowed(['none', 'versioning', 'immutable'])
param dataProtection string

@description('Days for which a blob in the data container can be neither changed nor deleted, counted from its creation.')
param immutabilityDays int

@description('Days for which deleted or overwritten blobs and deleted containers can be brought back.')
param softDeleteDays int

@description('Days after which copies that were brought back from the Archive tier are deleted.')
param rehydratedDays int

@description('Days after which events that could not be delivered are deleted.')
param deadLetterDays int = 30

@description('True closes the public endpoint; private endpoints are needed then.')
param privateNetwork bool

@description('True puts a lock on the account, so that it is not deleted by mistake.')
param deleteLock bool

@description('Principal of the functions.')
param functionsPrincipalId string

@description('Principal of the event topic.')
param eventsPrincipalId string

@description('Principal of the person or group who uploads and restores; empty for none.')
param operatorPrincipalId string

@description('What the operator is.')
@allowed(['User', 'Group', 'ServicePrincipal'])
param operatorPrincipalType string

var roles = loadJsonContent('../roles.json')

// As the code names them: repositoryNames in src/settings.ts. test/infra holds both sides together.
var inboxName = '${repository}-inbox'
var dataName = '${repository}-data'
var stateName = '${repository}-state'
var deadLetterName = '${repository}-deadletter'
var containerNames = [inboxName, dataName, stateName, deadLetterName]
var queueNames = [
  '${repository}-batches'
  '${repository}-batches-poison'
  // Where the host puts events of uploads that could not be recorded, in the account of the trigger.
  'webjobs-blobtrigger-poison'
]

resource account 'Microsoft.Storage/storageAccounts@2024-01-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: {
    name: redundancy
  }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false
    allowCrossTenantReplication: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: privateNetwork ? 'Disabled' : 'Enabled'
    networkAcls: {
      defaultAction: privateNetwork ? 'Deny' : 'Allow'
      // Event Grid writes what it could not deliver as a trusted service.
      bypass: 'AzureServices'
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2024-01-01' = {
  parent: account
  name: 'default'
  properties: {
    isVersioningEnabled: dataProtection == 'versioning'
    deleteRetentionPolicy: {
      enabled: true
      days: softDeleteDays
    }
    containerDeleteRetentionPolicy: {
      enabled: true
      days: softDeleteDays
    }
  }
}

resource containers 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = [
  for container in containerNames: {
    parent: blobs
    name: container
    properties: {
      publicAccess: 'None'
    }
  }
]

// Unlocked: who owns the subscription can still shorten or remove it. docs/security.md says how to lock it, which
// cannot be undone; a locked policy cannot be written again either, so one that is there is left as it is.
@onlyIfNotExists()
resource immutability 'Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies@2024-01-01' = if (dataProtection == 'immutable') {
  parent: containers[1]
  name: 'default'
  properties: {
    immutabilityPeriodSinceCreationInDays: immutabilityDays
    allowProtectedAppendWrites: false
  }
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices@2024-01-01' = {
  parent: account
  name: 'default'
}

resource queue 'Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01' = [
  for queueName in queueNames: {
    parent: queues
    name: queueName
  }
]

var lifecycleRules = [
  {
    name: 'rehydrated-copies'
    enabled: true
    type: 'Lifecycle'
    definition: {
      filters: {
        blobTypes: ['blockBlob']
        prefixMatch: ['${stateName}/rehydrated/']
      }
      actions: {
        baseBlob: {
          delete: {
            daysAfterCreationGreaterThan: rehydratedDays
          }
        }
      }
    }
  }
  {
    name: 'undelivered-events'
    enabled: true
    type: 'Lifecycle'
    definition: {
      filters: {
        blobTypes: ['blockBlob', 'appendBlob']
        prefixMatch: ['${deadLetterName}/']
      }
      actions: {
        baseBlob: {
          delete: {
            daysAfterCreationGreaterThan: deadLetterDays
          }
        }
      }
    }
  }
]
// Versioning is of the whole account; only the data container is to keep old versions for good.
var versionRules = [
  {
    name: 'old-versions'
    enabled: true
    type: 'Lifecycle'
    definition: {
      filters: {
        blobTypes: ['blockBlob']
        prefixMatch: ['${inboxName}/', '${stateName}/']
      }
      actions: {
        version: {
          delete: {
            daysAfterCreationGreaterThan: softDeleteDays
          }
        }
      }
    }
  }
]

resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2024-01-01' = {
  parent: account
  name: 'default'
  properties: {
    policy: {
      rules: dataProtection == 'versioning' ? concat(lifecycleRules, versionRules) : lifecycleRules
    }
  }
  dependsOn: [blobs]
}

resource lock 'Microsoft.Authorization/locks@2020-05-01' = if (deleteLock) {
  name: 'keep-the-archive'
  scope: account
  properties: {
    level: 'CanNotDelete'
    notes: 'Holds the archive. Remove this lock only to delete the archive for good.'
  }
}

// The functions read uploads, write chunks and state, and delete state and consumed uploads. All containers of the account
// are theirs, so the role is given on the account.
resource functionsBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, functionsPrincipalId, 'Storage Blob Data Contributor')
  scope: account
  properties: {
    principalId: functionsPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Storage Blob Data Contributor'])
  }
}

// The functions name batches to the queue and take them from there; the host fills the poison queues.
resource functionsQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, functionsPrincipalId, 'Storage Queue Data Contributor')
  scope: account
  properties: {
    principalId: functionsPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Storage Queue Data Contributor'])
  }
}

// The event topic writes what it could not deliver, and sees nothing of the archive.
resource eventsDeadLetters 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(containers[3].id, eventsPrincipalId, 'Storage Blob Data Contributor')
  scope: containers[3]
  properties: {
    principalId: eventsPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Storage Blob Data Contributor'])
  }
}

// The operator uploads, restores and repairs with the command line.
resource operatorBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(operatorPrincipalId)) {
  name: guid(account.id, operatorPrincipalId, 'Storage Blob Data Contributor')
  scope: account
  properties: {
    principalId: operatorPrincipalId
    principalType: operatorPrincipalType
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Storage Blob Data Contributor'])
  }
}

@description('Resource id.')
output id string = account.id

@description('Address of the blobs.')
output blobEndpoint string = account.properties.primaryEndpoints.blob

@description('Address of the queues.')
output queueEndpoint string = account.properties.primaryEndpoints.queue

@description('The container whose uploads are announced.')
output inboxContainer string = inboxName

@description('The container for events that could not be delivered.')
output deadLetterContainer string = deadLetterName
