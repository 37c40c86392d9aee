"""Images in (files, folders, lists), pictures of people with their skeletons out."""
