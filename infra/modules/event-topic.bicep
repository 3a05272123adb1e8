// The event topic of the archive's storage account. What is subscribed is in ../events.bicep: it needs the code.

@description('Ending of the names.')
param token string

@description('Region; that of the storage account.')
param location string

@description('Tags of all resources.')
param tags object

@description('Storage account of the archive.')
param archiveStorageId string

@description('Identity that writes events which could not be delivered.')
param identityId string

resource topic 'Microsoft.EventGrid/systemTopics@2022-06-15' = {
  name: 'evgt-firn-${token}'
  location: location
  tags: tags
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    source: archiveStorageId
    topicType: 'Microsoft.Storage.StorageAccounts'
  }
}

@description('Resource id.')
output id string = topic.id

@description('Name of the topic.')
output name string = topic.name
