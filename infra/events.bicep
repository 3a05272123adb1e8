// The second deployment, after the code: uploads are announced to the blob trigger. The address of its webhook holds a key
// that the host makes when it first runs the code; it is read and used here, and is in no parameter and no output.

@description('Name of the event topic.')
param eventTopicName string

@description('Name of the function app.')
param functionAppName string

@description('The container whose uploads are announced.')
param inboxContainer string

@description('Storage account of the archive.')
param archiveStorageId string

@description('Where events go that could not be delivered.')
param deadLetterContainer string

@description('Identity that writes them.')
param eventsIdentityId string

resource app 'Microsoft.Web/sites@2024-04-01' existing = {
  name: functionAppName
}

resource topic 'Microsoft.EventGrid/systemTopics@2022-06-15' existing = {
  name: eventTopicName
}

var webhook = 'https://${app.properties.defaultHostName}/runtime/webhooks/blobs'
var keys = listKeys('${app.id}/host/default', '2024-04-01')

resource uploads 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2022-06-15' = {
  parent: topic
  name: 'uploads'
  properties: {
    eventDeliverySchema: 'EventGridSchema'
    destination: {
      endpointType: 'WebHook'
      properties: {
        endpointUrl: '${webhook}?functionName=Host.Functions.recordUpload&code=${keys.systemKeys.blobs_extension}'
      }
    }
    filter: {
      includedEventTypes: ['Microsoft.Storage.BlobCreated']
      subjectBeginsWith: '/blobServices/default/containers/${inboxContainer}/blobs/'
    }
    retryPolicy: {
      maxDeliveryAttempts: 30
      eventTimeToLiveInMinutes: 1440
    }
    deadLetterWithResourceIdentity: {
      identity: {
        type: 'UserAssigned'
        userAssignedIdentity: eventsIdentityId
      }
      deadLetterDestination: {
        endpointType: 'StorageBlob'
        properties: {
          resourceId: archiveStorageId
          blobContainerName: deadLetterContainer
        }
      }
    }
  }
}
